"""`its simulation`: look at the simulated traffic world, film it, count in it, and let its time pass."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table, say

app = typer.Typer(help="The simulated traffic world.", no_args_is_help=True)


class LightName(StrEnum):
    day = "day"
    dusk = "dusk"
    night = "night"


class WeatherName(StrEnum):
    clear = "clear"
    rain = "rain"
    fog = "fog"


View = Annotated[str, typer.Option("--view", "-v", help="A view's name, or camera-<number>.")]
Light = Annotated[LightName, typer.Option("--light", "-l")]
Weather = Annotated[WeatherName, typer.Option("--weather", "-w")]
Seed = Annotated[int, typer.Option(help="Which world.", min=0)]
Out = Annotated[Path, typer.Option("--out", "-o", help="The file to write.")]


@app.command()
def views(json: JsonFlag = False) -> None:
    """The cameras that the demo's world has."""
    from its_platform.simulation import view_named
    from its_platform.simulation import views as names

    rows = []
    for name in names():
        seen = view_named(name)
        lanes = [lane for lane in seen.layout.lanes if not lane.is_walk]
        rows.append(
            {
                "view": name,
                "address": f"sim://{name}",
                "lanes": len(lanes),
                "footpaths": len(seen.layout.lanes) - len(lanes),
                "camera_height_m": round(seen.camera.position[2], 1),
            }
        )
    emit(rows, json, lambda: rows_table(rows))


@app.command()
def preview(
    view: View = "junction",
    light: Light = LightName.day,
    weather: Weather = WeatherName.clear,
    at_s: Annotated[float, typer.Option(help="Seconds since the world's beginning.")] = 60.0,
    seed: Seed = 7,
    boxes: Annotated[bool, typer.Option("--boxes", help="Draw the true boxes.")] = False,
    out: Out = Path("preview.png"),
    json: JsonFlag = False,
) -> None:
    """Write one frame as a picture, and tell what is on it."""
    import cv2

    from its_platform.errors import BadInput
    from its_platform.simulation import render

    frame = render(view, seed, at_s, light.value, weather.value)
    image = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
    for box in frame.boxes if boxes else []:
        cv2.rectangle(image, (int(box.x1), int(box.y1)), (int(box.x2) - 1, int(box.y2) - 1), (80, 240, 80), 1)
        where = (int(box.x1), max(int(box.y1) - 3, 9))
        cv2.putText(image, box.class_name, where, cv2.FONT_HERSHEY_SIMPLEX, 0.36, (80, 240, 80), 1, cv2.LINE_AA)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise BadInput(f"{out} names no kind of picture.", "End it in .png or .jpg.")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(out), image):
        raise BadInput(f"{out} cannot be written.", "Give a place that you may write to.")
    facts = {"picture": out, "view": view, "light": frame.light, "weather": frame.weather, "boxes": frame.boxes}
    rows = [{"class": b.class_name, "track": b.track_id, "speed_kmh": round(b.speed_mps * 3.6)} for b in frame.boxes]
    emit(facts, json, lambda: rows_table(rows, title=f"{view}, {light.value} and {weather.value}: {out}"))


@app.command()
def video(
    view: View = "junction",
    light: Light = LightName.day,
    weather: Weather = WeatherName.clear,
    from_s: Annotated[float, typer.Option(help="First second of the world that is filmed.")] = 0.0,
    seconds: Annotated[float, typer.Option(help="Length.")] = 10.0,
    fps: Annotated[float, typer.Option(help="Frames a second.")] = 15.0,
    seed: Seed = 7,
    out: Out = Path("preview.mp4"),
    json: JsonFlag = False,
) -> None:
    """Film a camera into an H.264 file."""
    from its_platform.simulation import write_video
    from its_platform.telemetry import terminal_progress

    with terminal_progress() as progress:
        frames = write_video(view, seed, from_s, from_s + seconds, fps, out, light.value, weather.value, progress)
    emit({"video": out, "frames": frames, "fps": fps, "view": view}, json)


@app.command()
def counts(
    view: View = "junction",
    from_s: Annotated[float, typer.Option(help="From this second of the world.")] = 0.0,
    to_s: Annotated[float, typer.Option(help="To this second.")] = 600.0,
    seed: Seed = 7,
    json: JsonFlag = False,
) -> None:
    """How many of each class passed each counting line."""
    from its_platform.simulation import truth_counts

    found = truth_counts(view, seed, from_s, to_s)
    rows = [{"line": line, **classes} for line, classes in found.items()]
    columns = ["line", *sorted({name for classes in found.values() for name in classes})]
    emit(found, json, lambda: rows_table(rows, columns, title=f"{view}, {from_s:g} s to {to_s:g} s"))


@app.command()
def timeline(json: JsonFlag = False) -> None:
    """Which light and weather ruled when; footage exists there and nowhere else."""
    from its_platform.settings import load_settings
    from its_platform.simulation import read_timeline

    there = read_timeline(load_settings())
    rows = [
        {
            "from": there.moment(s.from_s),
            "to": there.moment(s.to_s),
            "seconds": s.to_s - s.from_s,
            "light": s.light,
            "weather": s.weather,
        }
        for s in there.segments
    ]
    facts = {"epoch": there.epoch, "seed": there.seed, "end": there.end, "segments": rows}
    emit(facts, json, lambda: rows_table(rows, title=f"World {there.seed}"))


@app.command()
def extend(
    light: Light = LightName.day,
    weather: Weather = WeatherName.clear,
    seconds: Annotated[float, typer.Option(help="How long it lasts.")] = 600.0,
    json: JsonFlag = False,
) -> None:
    """Let more time pass: footage of every simulated camera under this light and weather."""
    from its_platform.settings import load_settings
    from its_platform.simulation import append_segment

    there = append_segment(load_settings(), light.value, weather.value, seconds)
    if not json:
        say(f"Footage now ends at {there.end.isoformat()}.")
    emit({"end": there.end, "added": there.segments[-1], "segments": len(there.segments)}, json)
