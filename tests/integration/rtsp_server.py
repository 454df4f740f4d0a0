"""A real RTSP server (GStreamer's) that plays one clip to each client that knows the password.

Run by the system's Python, which has GStreamer's bindings, as a program of its own: `rtsp_server.py PORT CLIP`, with
user and password on standard input. It says `ready` when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    port, clip = sys.argv[1:3]
    user, password = sys.stdin.readline().split()
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( filesrc location={clip} ! qtdemux ! rtph264pay name=pay0 pt=96 config-interval=-1 )")
    watcher = GstRtspServer.RTSPToken()
    watcher.set_string("media.factory.role", "watcher")
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(2)  # digest, as cameras ask for it; basic is 1
    auth.add_digest(user, password, watcher)
    roles = GstRtspServer.RTSPPermissions()
    roles.add_permission_for_role("watcher", "media.factory.access", True)
    roles.add_permission_for_role("watcher", "media.factory.construct", True)
    factory.set_permissions(roles)
    server.set_auth(auth)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit(f"port {port} cannot be listened on")
    print("ready", flush=True)  # noqa: T201
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
