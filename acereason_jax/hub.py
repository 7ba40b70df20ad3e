"""Models and data sets of the Hugging Face hub, in its cache on this machine.

A model is named 'owner/name', a file of a data set
'hf://datasets/owner/name/FILE'; a name may end in '@revision'. The library
reads HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.

A revision can move. So a run writes down the commits that it began with, and
names them (run/pins.py).

A repository and a server's replies come from strangers. Only files of the given
names are fetched, from no folder inside, never code or pickles. Nothing that a
server says becomes part of an error, because it could repeat the token.
"""

import contextlib
import functools
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import tqdm

from acereason_jax import files

_FILE = 'hf://'
_MODEL = re.compile(r'[A-Za-z0-9][\w.-]*/[\w.-]+(@.*)?', re.ASCII)
_REVISION = re.compile(r'[\w.-]+(/[\w.-]+)*', re.ASCII)
COMMIT = re.compile(r'[0-9a-f]{40}')
# The library makes paths of these headers, and does not check the first two.
_IN_PATHS = 'ETag', 'X-Linked-ETag', 'X-Repo-Commit'
_SAFE = re.compile(r'(W/)?"?\w[\w.:=+-]{0,199}"?', re.ASCII)
# The library sets none for some requests.
_SECONDS = 60.0
_MOST_FILES = 10_000
_MOST_BYTES = 8 << 40
_SLACK_BYTES = 16 << 20
_OUT_OF_REACH = (
  errors.LocalEntryNotFoundError,
  errors.OfflineModeIsEnabled,
  errors.RevisionResolutionError,
  errors.HTTPError,
)


class Place(NamedTuple):
  """A repository of the hub, or a file there.

  kind: 'model' or 'dataset'.
  repo: 'owner/name'.
  revision: a branch, tag or commit; '' if none is named.
  path: the file in it; '' for a model.
  """

  kind: str
  repo: str
  revision: str
  path: str

  @property
  def name(self) -> str:
    """'owner/name@revision', with 'datasets/' before that of data."""
    at = f'@{self.revision}' if self.revision else ''
    return f'{"datasets/" * (self.kind == "dataset")}{self.repo}{at}'

  def __str__(self) -> str:
    """As a user writes it."""
    return f'{_FILE}{self.name}/{self.path}' if self.path else self.name


def is_model(name: str) -> bool:
  """Whether it has the form 'owner/name' or 'owner/name@revision'."""
  return _MODEL.fullmatch(name) is not None


def is_file(path: str | os.PathLike) -> bool:
  return isinstance(path, str) and path.startswith(_FILE)


def place(name: str) -> Place:
  """What a model's name or a path with hf:// means.

  Raises:
    ValueError: one line.
  """
  kind = 'dataset' if is_file(name) else 'model'
  expected = dict(
    model="a model as 'owner/name' or 'owner/name@revision'",
    dataset="a file as 'hf://datasets/owner/name/FILE'",
  )[kind]
  uri = name if kind == 'dataset' else f'{_FILE}models/{name}'
  try:
    found = huggingface_hub.parse_hf_uri(uri)
  except ValueError as e:
    raise ValueError(f'{name!r:.200}: {_short(e)}; expected {expected}') from e
  at = Place(found.type, found.id, found.revision or '', found.path_in_repo)
  parts = [*at.revision.split('/'), *at.path.split('/')]
  named = not at.revision or _REVISION.fullmatch(at.revision)
  odd = not at.path.isprintable() or '\\' in at.path or '..' in parts
  if at.kind != kind or bool(at.path) != is_file(name) or not named or odd:
    raise ValueError(f'{name!r:.200}: no such name; expected {expected}')
  return at


def commit_of(at: Place) -> str:
  """The commit that its revision, or main, stands for.

  A process asks once. If the hub is out of reach, the cache knows what it was.

  Raises:
    ValueError: one line.
  """
  return _commit(at._replace(path=''))


@functools.cache
def _commit(at: Place) -> str:
  if COMMIT.fullmatch(at.revision):
    return at.revision
  with _told(at):
    found = huggingface_hub.HfApi().resolve_revision(
      at.repo, repo_type=at.kind, revision=at.revision or None
    )
  if not COMMIT.fullmatch(found.resolved):
    raise ValueError(f'{at}: {_endpoint()} gave no commit; is it a hub?')
  return found.resolved


def model(name: str, patterns: Sequence[str]) -> str:
  """The folder with the model's files of these names, fetched if need be.

  * and ? in a pattern stand for any characters but '/'.

  Raises:
    ValueError: one line.
  """
  at = place(name)
  wanted: dict[str, Any] = dict(
    repo_type=at.kind,
    revision=commit_of(at),
    allow_patterns=list(patterns),
    ignore_patterns=['*/*'],
  )
  with _told(at), _alone(at):
    # Without a connection there is nothing to announce, only the cache.
    with contextlib.suppress(errors.DryRunError):
      found = huggingface_hub.snapshot_download(at.repo, **wanted, dry_run=True)
      _announce(at, found, _MOST_BYTES)
    return huggingface_hub.snapshot_download(
      at.repo, **wanted, tqdm_class=_Progress
    )


def local(
  path: str | os.PathLike, most_bytes: int | None = None
) -> str | os.PathLike:
  """The path; for one with hf:// that of the file in the cache.

  The file is fetched if it is not there.

  Raises:
    ValueError: one line; the file has more bytes, for example.
  """
  if not is_file(path):
    return path
  at = place(path)
  wanted: dict[str, Any] = dict(repo_type=at.kind, revision=commit_of(at))
  with _told(at), _alone(at):
    found = huggingface_hub.hf_hub_download(
      at.repo, at.path, **wanted, dry_run=True
    )
    _announce(at, [found], most_bytes or _MOST_BYTES)
    return huggingface_hub.hf_hub_download(
      at.repo, at.path, **wanted, tqdm_class=_Progress
    )


def _announce(
  at: Place, found: list[huggingface_hub.DryRunFileInfo], most_bytes: int
) -> None:
  """Says what is fetched. Raises ValueError: it is too much."""
  todo = [file for file in found if file.will_download]
  size = sum(file.file_size or 0 for file in todo)
  if len(todo) > _MOST_FILES or size > most_bytes:
    raise ValueError(
      f'{len(todo):,} files of {size:,} bytes, more than {_MOST_FILES:,} or '
      f'{most_bytes:,}'
    )
  if todo:
    print(
      f'fetching {at} at {found[0].commit_hash[:12]} ({len(todo)} files, '
      f'{size / 1e6:,.0f} MB) into {constants.HF_HUB_CACHE}',
      file=sys.stderr,
      flush=True,
    )


class _Progress(tqdm):
  """The library's progress bar; refuses far more than was announced."""

  _got = 0

  def update(self, n: float | None = 1) -> bool | None:
    self._got += n or 0
    # Some of it may have been sent twice.
    if self._got > 2 * (self.total or 0) + _SLACK_BYTES:
      raise ValueError(f'it sends more than the {self.total} that it announced')
    return super().update(n)


@contextlib.contextmanager
def _alone(at: Place) -> Iterator[None]:
  """One process of a host fetches a repository; the others wait for it."""
  folder = os.path.join(constants.HF_HUB_CACHE, '.locks')
  file = f'acereason_jax--{at.kind}--{at.repo.replace("/", "--")}.lock'
  with contextlib.ExitStack() as stack:
    # A cache that cannot be written may still have everything.
    with contextlib.suppress(OSError):
      os.makedirs(folder, exist_ok=True)
      busy = f'waiting for another process of this host that fetches {at}'
      stack.enter_context(files.locked(os.path.join(folder, file), busy))
    yield


@contextlib.contextmanager
def _told(at: Place) -> Iterator[None]:
  """Makes one line, a ValueError, of what the library raises."""
  _make_careful()
  try:
    yield
  except (
    OSError,
    ValueError,
    errors.HTTPError,
    errors.RevisionResolutionError,
    errors.XetDownloadError,
    # Of the library's compiled part.
    RuntimeError,
    # What a reply of another form than the library expects ends in.
    *(AssertionError, AttributeError, KeyError, TypeError),
  ) as e:
    raise ValueError(f'{at}: {_reason(at, e)}') from e


def _make_careful() -> None:
  """The library's client and its log stay so for the rest of the process."""
  client = huggingface_hub.get_session()
  hooks = client.event_hooks
  if _check_headers not in hooks['response']:
    client.event_hooks = dict(
      request=[*hooks['request'], _limit_time],
      response=[*hooks['response'], _check_headers],
    )
  # It logs what servers say.
  for handler in logging.getLogger('huggingface_hub').handlers:
    if _without_token not in handler.filters:
      handler.addFilter(_without_token)


def _without_token(record: logging.LogRecord) -> bool:
  if token := huggingface_hub.get_token():
    record.msg, record.args = record.getMessage().replace(token, '***'), ()
  return True


def _limit_time(request: Any) -> None:
  times = dict(request.extensions.get('timeout') or {})
  for part in ('connect', 'read', 'write', 'pool'):
    if times.get(part) is None:
      times[part] = _SECONDS
  request.extensions['timeout'] = times


def _check_headers(response: Any) -> None:
  """Raises ValueError for headers that would lead out of the cache."""
  if response.request.method == 'HEAD':
    for name in _IN_PATHS:
      if not _SAFE.fullmatch(response.headers.get(name, 'none')):
        raise ValueError(f'a header {name} is no name of a file')


def _reason(at: Place, error: Exception) -> str:
  """What happened, and the remedy."""
  hub, cache = _endpoint(), constants.HF_HUB_CACHE
  causes = list(_causes(error))
  for cause in causes:
    if isinstance(cause, errors.HfHubHTTPError):
      return _refusal(at, cause)
  odd = any(isinstance(cause, errors.FileMetadataError) for cause in causes)
  if isinstance(error, _OUT_OF_REACH) and not odd:
    if constants.is_offline_mode():
      return (
        f'not whole in the cache {cache}, and HF_HUB_OFFLINE is set; unset it, '
        'or copy the cache of a machine that has fetched it'
      )
    return (
      f'not whole in the cache {cache}, and {hub} is out of reach '
      f'({_short(causes[-1])}); check the network and HF_ENDPOINT, then run it '
      'again: whole files stay'
    )
  if isinstance(error, OSError) and error.strerror:
    return (
      f'cannot be put into the cache {cache}: {error.strerror}; make room or '
      'name another with HF_HOME'
    )
  broke = OSError, RuntimeError, errors.XetDownloadError
  if isinstance(error, broke) and not odd:
    return f'its download broke off ({_short(error)}); run it again'
  if isinstance(error, ValueError):
    return f'{_short(error)}; do not use it, or check HF_ENDPOINT ({hub})'
  return (
    f'{hub} answers in another form than a hub does ({_short(error)}); check '
    'HF_ENDPOINT'
  )


def _refusal(at: Place, error: errors.HfHubHTTPError) -> str:
  """What the hub's answer means. Its words could repeat the token."""
  hub, status = _endpoint(), error.response.status_code
  url = f'{hub}/{at._replace(revision="", path="").name}'
  token = 'give HF_TOKEN of an account that may read it'
  if isinstance(error, errors.GatedRepoError):
    return f'its owner grants access; ask for it at {url}, and {token}'
  if isinstance(error, errors.RevisionNotFoundError):
    return f'it has no revision {at.revision or "main"}; see {url}'
  if isinstance(error, errors.RemoteEntryNotFoundError):
    return f'there is no such file; see {url}/tree/{at.revision or "main"}'
  if status in (401, 404):
    return (
      f'{hub} has no such {at.kind}, or a private one; correct the name, or '
      f'{token}'
    )
  return f'{hub} answers {status}; {token if status == 403 else "try later"}'


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  while error is not None:
    yield error
    error = error.__cause__


def _short(error: BaseException) -> str:
  words = ' '.join(str(error).split()) or type(error).__name__
  return f'{words:.200}'


def _endpoint() -> str:
  """The hub's address, without a password in it."""
  return re.sub(r'//[^/]*@', '//', constants.ENDPOINT)
