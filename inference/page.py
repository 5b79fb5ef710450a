"""What does the report's HTML look like? Its pieces as text: plain HTML, CSS and a few lines of script, no network."""

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

_LANES = 6  # above a picture, one a species, for the names of its detections; of more species some share one
_LANE_REM = 1.25  # a lane's height, in the browser's letters
_NARROW = 0.01  # share of a picture's width below which a detection is a mark without a name
_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400)
_ROUND_HZ = (1000, 2000, 4000, 8000, 16_000, 32_000, 64_000)

_HEAD = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --quiet: #555; --line: #ccc; }
@media (prefers-color-scheme: dark) { :root { --quiet: #aaa; --line: #444; } }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt, .quiet, figcaption { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 0; }
nav ul { columns: 16rem; padding: 0; list-style: none; }
.dot { display: inline-block; width: .8em; height: .8em; border-radius: 50%; background: var(--colour); }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.clips img { width: 100%; height: 8rem; display: block; }
audio { width: 100%; }
.recording { margin: 1.5rem 0 2.5rem; }
.picture { position: relative; background: #000; cursor: pointer; overflow: hidden; }
.spectrogram { position: relative; height: 12rem; }
.spectrogram img { width: 100%; height: 100%; display: block; }
.box { position: absolute; bottom: 0; padding: 0; min-width: 3px; cursor: pointer; border: 0; background: none; }
.box { border-left: 2px solid var(--colour); font: .75rem/1.2rem system-ui, sans-serif; text-align: left; }
.box span { position: absolute; inset: 0 0 auto; height: 1.2rem; padding: 0 .2rem; overflow: hidden; }
.box span { white-space: nowrap; background: var(--colour); color: #000; }
.box:hover, .box:focus-visible { background: #fff3; outline: 2px solid #fff; z-index: 1; }
.now { position: absolute; inset: 0 auto; left: 0; width: 2px; background: #fff; pointer-events: none; }
.hz { position: absolute; left: .2rem; font-size: .7rem; line-height: 1; color: #fff; text-shadow: 0 0 3px #000; }
.hz { pointer-events: none; }
.time { position: relative; height: 1.5rem; font-size: .8rem; color: var(--quiet); }
.time span { position: absolute; border-left: 1px solid; padding-left: .2rem; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: 0 1rem 0 0; overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
""")

_END = """</main>
<script>
for (const recording of document.querySelectorAll(".recording")) {
  const audio = recording.querySelector("audio");
  const picture = recording.querySelector(".picture");
  const seconds = Number(recording.dataset.seconds);
  recording.playFrom = second => {
    const play = () => { audio.currentTime = second; audio.play().catch(() => {}); };
    if (audio.readyState > 0) play();
    else { audio.addEventListener("loadedmetadata", play, { once: true }); audio.load(); }
  };
  const follow = () => { recording.querySelector(".now").style.left = 100 * audio.currentTime / seconds + "%"; };
  audio.addEventListener("timeupdate", follow);
  audio.addEventListener("seeking", follow);
  audio.addEventListener("error", () => { recording.querySelector(".missing").hidden = false; });
  picture.addEventListener("click", event => {
    const box = event.target.closest(".box"), place = picture.getBoundingClientRect();
    recording.playFrom(box ? Number(box.dataset.at) : seconds * (event.clientX - place.left) / place.width);
  });
}
document.addEventListener("click", event => {
  const link = event.target.closest("a[data-at]");
  if (link) document.querySelector(link.hash).playFrom?.(Number(link.dataset.at));
});
document.addEventListener("play", event => {  // one sound at a time
  for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
}, true);
</script>
</body>
</html>
"""


def head(title: str) -> str:
    """Everything before the page's first words."""
    return _HEAD.substitute(title=escape(title))


def end() -> str:
    """Everything after its last: the script that joins pictures and players."""
    return _END


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>\n"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def terms(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and what they are."""
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in pairs)
    return f"<dl>\n{lines}</dl>\n"


def contents(entries: Iterable[tuple[str, str, int, str]]) -> str:
    """Links to the species, each ``(id, name, detections, colour)``."""
    lines = "".join(
        f'<li>{_dot(colour)} <a href="#{key}">{escape(name)}</a> <span class="quiet">{count}</span></li>\n'
        for key, name, count, colour in entries
    )
    return f'<nav aria-label="Species">\n<ul>\n{lines}</ul>\n</nav>\n'


def species(key: str, name: str, scientific: str, told: str, colour: str, clips: Iterable[str]) -> str:
    """A species and its strongest detections."""
    also = f" <i>{escape(scientific)}</i>" if scientific and scientific != name else ""
    return (
        f'<section id="{key}">\n<h3>{_dot(colour)} {escape(name)}{also}</h3>\n<p class="quiet">{escape(told)}</p>\n'
        f'<div class="clips">\n{"".join(clips)}</div>\n</section>\n'
    )


def clip(caption: str, place: str, key: str, at_s: float, picture: str, sound: str) -> str:
    """A detection to see and hear.

    Args:
        place: recording and time, in words.
        key, at_s: the recording's id on this page, and the second to play it from.
        picture, sound: data URIs; empty where there is none.
    """
    link = f'<a href="#{key}" data-at="{at_s:.3f}">{escape(place)}</a>'
    image = f'<img src="{picture}" alt="{escape(f"spectrogram of {caption}, {place}")}" loading="lazy">\n'
    player = f'<audio controls preload="none" src="{sound}" aria-label="{escape(f"{caption}, {place}")}"></audio>\n'
    return (
        f"<figure>\n{image if picture else ''}{player if sound else ''}"
        f"<figcaption>{escape(caption)}<br>{link}</figcaption>\n</figure>\n"
    )


def box(start: float, end: float, at_s: float, lane: int, colour: str, name: str, told: str) -> str:
    """A detection on a recording's picture; ``start`` and ``end`` are shares of its width."""
    width, top = max(0.0, min(end, 1.0) - start), _LANE_REM * (lane % _LANES)
    tag = escape(name) if width >= _NARROW else ""
    return (
        f'<button type="button" class="box" data-at="{at_s:.3f}" title="{escape(told)}" aria-label="{escape(told)}" '
        f'style="left:{start:.3%};width:{width:.3%};top:{top:g}rem;--colour:{colour}"><span>{tag}</span></button>\n'
    )


def recording(
    key: str, name: str, seconds: float, told: str, picture: str, frequencies_hz: Sequence[float],
    boxes: Iterable[str], lanes: int, sound: str, note: str,
) -> str:  # fmt: skip
    """A recording: its picture with the detections on it, a time axis, a player.

    Args:
        picture: a data URI.
        frequencies_hz: of the picture's rows, rising.
        lanes: that its boxes have.
        sound: a data URI, or where the recording lies.
        note: about the sound.
    """
    low, high = frequencies_hz[0], frequencies_hz[-1]
    alt = f"spectrogram of {name}, {clock(seconds)} long, {low:.0f} to {high:.0f} Hz"
    missing = "The recording cannot be played: it lies no longer where it was, or this browser cannot play its kind."
    return (
        f'<figure class="recording" id="{key}" data-seconds="{seconds:.3f}">\n<h3>{escape(name)}</h3>\n'
        f'<div class="picture" style="padding-top:{_LANE_REM * min(lanes, _LANES):g}rem">\n<div class="spectrogram">\n'
        f'<img src="{picture}" alt="{escape(alt)}" loading="lazy">\n{_hz_axis(frequencies_hz)}</div>\n'
        f'{"".join(boxes)}<div class="now"></div>\n</div>\n{_time_axis(seconds)}'
        f'<audio controls preload="none" src="{escape(sound)}" aria-label="{escape(name)}"></audio>\n'
        f'<p class="missing" role="alert" hidden>{missing}</p>\n'
        f"<figcaption>{escape(told)} {escape(note)}</figcaption>\n</figure>\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    """A table; each row is its id and then its cells."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = "".join(
        f'<tr id="{key}">{"".join(f"<td>{escape(str(value))}</td>" for value in values)}</tr>\n'
        for key, *values in rows
    )
    return f"<table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table>\n"


def clock(seconds: float) -> str:
    """3725.4 -> 1:02:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def colour(rank: int) -> str:
    """A colour light enough for black words on it; neighbours in rank differ by the golden angle."""
    return f"hsl({rank * 137.5 % 360:.0f} 85% 68%)"


def _dot(colour: str) -> str:
    return f'<span class="dot" style="--colour:{colour}"></span>'


def _time_axis(seconds: float) -> str:
    step = next((step for step in _TICKS_S if seconds / step <= 12), _TICKS_S[-1])
    ticks = range(0, int(seconds) + 1, step)
    marks = "".join(f'<span style="left:{at / seconds:.3%}">{clock(at)}</span>' for at in ticks if at < 0.97 * seconds)
    return f'<div class="time" aria-hidden="true">{marks}</div>\n'


def _hz_axis(frequencies_hz: Sequence[float]) -> str:
    low, high = frequencies_hz[0], frequencies_hz[-1]
    places = [(hz, sum(band < hz for band in frequencies_hz) / len(frequencies_hz)) for hz in _ROUND_HZ if hz < high]
    return "".join(
        f'<span class="hz" style="bottom:{place:.1%}" aria-hidden="true">{hz // 1000} kHz</span>\n'
        for hz, place in places
        if hz > low
    )
