"""A report as one page: a file that needs no network, server or other file.

The page's data are blocks of base64 of gzip, which no text can end, and its
script puts text into the page only as text. What static.py makes of a report is
there without the script too. The policy of the page names the hashes of its
scripts and its style, so that nothing else runs.
"""

import base64
import gzip
import hashlib
import importlib.resources
import json
import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

from acereason_jax.reporting import static, values

_ASSETS = importlib.resources.files('acereason_jax.reporting') / 'assets'
# In order: each uses what those before it define, or prepare.
_SCRIPTS = (
  *('base.js', 'uplot.min.js', 'curves.js', 'rollouts.js', 'response.js'),
  *('parts.js', 'page.js'),
)
# A level more costs twice the time and saves 1%.
_LEVEL = 6
# Digits of a value of a curve, and of a place on its axis.
_DIGITS, _PLACE_DIGITS = 5, 9
_CODES = ('surprise', 'entropy', 'mismatch')
_MAX_EXTRACTED = 200


def to_html(report: values.Report, *, watch: bool = False) -> str:
  """The page.

  Args:
    report: what it shows. Its texts may hold anything.
    watch: whether the page asks its server for new steps.
  """
  scripts = list(map(_asset, _SCRIPTS))
  style = _asset('uplot.min.css') + '\n' + _asset('page.css')
  blocks = [_block('index', _json(_index(report)))]
  for i, sample in enumerate(report.samples.samples):
    blocks.append(_block(f'rollout-{i}', _packed(sample)))
  # One pass: a placeholder in a text stays as it is.
  return string.Template(_asset('page.html')).substitute(
    static.parts(report),
    policy=_policy(scripts, style, watch),
    watch=' data-watch="1"' if watch else '',
    style=style,
    license=_asset('LICENSE.uPlot'),
    blocks='\n'.join(blocks),
    scripts='\n'.join(f'<script>{text}</script>' for text in scripts),
  )


def sample_bytes(sample: values.Sample) -> int:
  """About the bytes that a rollout takes in a page, within some percent."""
  row = len(_json(_row(sample)))
  return len(_block('rollout-0000', _packed(sample))) + row // 3


def _asset(name: str) -> str:
  return (_ASSETS / name).read_text(encoding='utf-8')


def _policy(scripts: Sequence[str], style: str, watch: bool) -> str:
  rules = [
    "default-src 'none'",
    f'script-src {" ".join(map(_hash, scripts))}',
    f'style-src {_hash(style)}',
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ]
  return '; '.join(rules + ["connect-src 'self'"] * watch)


def _hash(text: str) -> str:
  digest = hashlib.sha256(text.encode()).digest()
  return f"'sha256-{base64.b64encode(digest).decode()}'"


def _block(name: str, data: bytes) -> str:
  packed = base64.b64encode(gzip.compress(data, _LEVEL, mtime=0)).decode()
  return f'<script type="text/plain" id="{name}">{packed}</script>'


def _json(value: Any) -> bytes:
  """ASCII, so that lone surrogates are escapes too."""
  return json.dumps(value, separators=(',', ':'), allow_nan=False).encode()


def _index(report: values.Report) -> dict[str, Any]:
  """All of the page's data except the rollouts' texts."""
  samples = report.samples
  return dict(
    name=report.name,
    curves=[_curves(run) for run in report.curves],
    scales=samples.scales,
    rollouts=[_row(sample) for sample in samples.samples],
    prompts=_prompts(report.prompts),
    slots=report.slots and [list(stay) for stay in report.slots.stays],
  )


def _curves(run: values.Curves) -> dict[str, Any]:
  return dict(
    run=run.run,
    steps=list(run.steps),
    hours=_numbers(run.hours, _PLACE_DIGITS),
    tokens=_numbers(run.tokens, _PLACE_DIGITS),
    bands=[list(band) for band in run.bands],
    restarts=list(run.restarts),
    series=[
      one._asdict() | dict(values=_numbers(one.values)) for one in run.series
    ],
  )


def _numbers(
  found: Sequence[values.Number], digits: int = _DIGITS
) -> list[values.Number]:
  return [_number(value, digits) for value in found]


def _number(value: values.Number, digits: int) -> values.Number:
  """With so many digits; None for what JSON does not have."""
  if value is None or not math.isfinite(value):
    return None
  short = float(f'{value:.{digits}g}')
  return int(short) if short.is_integer() else short


def _prompts(prompts: values.Prompts | None) -> list[list[Any]] | None:
  if prompts is None:
    return None
  return [
    [p.prompt, p.domain, p.kind, [list(rate) for rate in p.rates]]
    for p in prompts.prompts
  ]


def _row(sample: values.Sample) -> dict[str, Any]:
  given = {name: _plain(value) for name, value in sample.row.items()}
  read = [text for what, text in sample.why.lines if what == 'extracted']
  return given | dict(extracted=read[0][:_MAX_EXTRACTED] if read else None)


def _plain(value: Any) -> Any:
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _packed(sample: values.Sample) -> bytes:
  """A rollout's texts and the numbers of its tokens.

  In order: bytes of the JSON object, uint32; that object; then rows of a byte
  for each token: three for its number of characters, the lowest byte first, and
  one for each of the codes that the object names. Characters are counted as
  JavaScript does, some as two.
  """
  lengths = _utf16_lengths(sample.text, sample.characters)
  found: dict[str, Sequence[int]] = {
    name: getattr(sample, name)
    for name in _CODES
    if getattr(sample, name) is not None
  }
  head = _json(
    dict(
      question=sample.question,
      answer=sample.answer,
      text=sample.text,
      tokens=len(lengths),
      codes=list(found),
      why=_why(sample.why),
    )
  )
  columns = [[n >> shift & 255 for n in lengths] for shift in (0, 8, 16)]
  arrays = b''.join(map(bytes, [*columns, *found.values()]))
  return len(head).to_bytes(4, 'little') + head + arrays


def _why(why: values.Why) -> Mapping[str, Any]:
  lines = [[what, text] for what, text in why.lines]
  return dict(lines=lines, note=why.note, command=why.command)


def _utf16_lengths(text: str, characters: Sequence[int]) -> Sequence[int]:
  if text.isascii() or max(text) < '\U00010000':
    return characters
  lengths, start = [], 0
  for count in characters:
    piece = text[start : start + count]
    lengths.append(len(piece) + sum(c >= '\U00010000' for c in piece))
    start += count
  return lengths
