// A live system in another language: asks the front about JPEG files with gRPC alone, and prints what it found.
//
//   npm install --no-package-lock
//   node detect.js 127.0.0.1:8101 north picture.jpg [picture.jpg ...]
//
// Where Triton answers over TLS alone, CERTIFICATE=north/north.pem names what `its certs client` made; key and ca.pem lie
// beside it.
//
// The deadline lies far beyond what an answer takes: a gRPC deadline that passes cancels the call, and a cancellation
// that meets the answer on its way crashes Triton 2.51.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const DEADLINE_MS = 60_000;
const ROWS = 300;
const COLUMNS = 6;
const OUTPUTS = ["detections", "served_version"];

const definition = loader.loadSync(path.join(__dirname, "triton.proto"), { keepCase: true, longs: Number });
const { GRPCInferenceService } = grpc.loadPackageDefinition(definition).inference;

// Triton's texts and files: four bytes of length, least significant first, and the content.
function withLength(content) {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(content.length);
  return Buffer.concat([length, content]);
}

function requestFor(jpeg, camera) {
  const id = crypto.randomUUID();
  return {
    model_name: "traffic_detector",
    id,
    parameters: {
      camera_id: { string_param: camera },
      captured_at: { string_param: new Date().toISOString() },
      // The same name each time that a request is sent: it is then one row in the log.
      request: { string_param: id },
    },
    inputs: [{ name: "jpeg", datatype: "BYTES", shape: [1] }],
    outputs: OUTPUTS.map((name) => ({ name })),
    raw_input_contents: [withLength(jpeg)],
  };
}

// The boxes of the one picture; rows of zeros are padding.
function boxesOf(content) {
  const boxes = [];
  for (let row = 0; row < ROWS; row += 1) {
    const values = Array.from({ length: COLUMNS }, (_, column) => content.readFloatLE((row * COLUMNS + column) * 4));
    if (values[4] > 0) {
      boxes.push({ class: values[5], confidence: Number(values[4].toFixed(3)), box: values.slice(0, 4) });
    }
  }
  return boxes;
}

function credentials(certificate) {
  if (!certificate) {
    return grpc.credentials.createInsecure();
  }
  const read = (name) => fs.readFileSync(path.join(path.dirname(certificate), name));
  const own = path.basename(certificate, ".pem");
  return grpc.credentials.createSsl(read("ca.pem"), read(`${own}.key`), read(`${own}.pem`));
}

function ask(client, jpeg, camera) {
  return new Promise((resolve, reject) => {
    client.ModelInfer(requestFor(jpeg, camera), { deadline: Date.now() + DEADLINE_MS }, (error, response) => {
      if (error) {
        reject(error);
        return;
      }
      const content = Object.fromEntries(
        response.outputs.map((output, place) => [output.name, response.raw_output_contents[place]]),
      );
      resolve({ version: content.served_version.readInt32LE(0), boxes: boxesOf(content.detections) });
    });
  });
}

async function main([address, camera, ...files]) {
  if (files.length === 0) {
    throw new Error("usage: node detect.js HOST:PORT CAMERA PICTURE.jpg ...");
  }
  const client = new GRPCInferenceService(address, credentials(process.env.CERTIFICATE));
  try {
    for (const file of files) {
      const answer = await ask(client, fs.readFileSync(file), camera);
      process.stdout.write(`${JSON.stringify({ picture: path.basename(file), ...answer })}\n`);
    }
  } finally {
    client.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.details || error.message}\n`);
  process.exitCode = 1;
});
