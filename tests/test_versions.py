"""What a start records of its programs: against real checkouts of git."""

import pathlib
import shutil
import subprocess
import sys

import jax
import psutil
import pytest
import tiny

import acereason_jax
from acereason_jax import checkout
from acereason_jax.run import versions

SOURCE = 'acereason_jax'
GUARD = 300.0


@pytest.fixture(autouse=True)
def patient(monkeypatch):
  """A git that answers has time to, on a busy machine too."""
  monkeypatch.setattr(checkout, '_SECONDS', GUARD)


def git(folder, *words):
  author = ('-c', 'user.name=a', '-c', 'user.email=a@b')
  done = subprocess.run(
    ['git', *author, '-c', 'commit.gpgsign=false', *words],
    cwd=folder,
    check=True,
    capture_output=True,
    text=True,
  )
  return done.stdout.strip()


@pytest.fixture
def package(tmp_path):
  """A package in a checkout, as it was committed."""
  found = tmp_path / 'checkout' / SOURCE
  found.mkdir(parents=True)
  (found / 'a.py').write_text('a = 1\n')
  (found.parent / 'README').write_text('read\n')
  (found.parent / '.gitignore').write_text('*.pyc\n')
  git(found.parent, 'init', '--quiet')
  assert checkout.commit(found) == ''
  git(found.parent, 'add', '.')
  git(found.parent, 'commit', '--quiet', '--message=one')
  return found


def head(package):
  return git(package, 'rev-parse', 'HEAD')


def test_a_commit_and_whether_the_package_is_as_in_it(package):
  short = checkout.commit(package)
  assert len(short) >= 7 and head(package).startswith(short)
  # What does not run does not count.
  (package.parent / 'README').write_text('other\n')
  (package.parent / 'notes').write_text('mine\n')
  (package / 'a.pyc').write_text('compiled\n')
  assert checkout.commit(package) == short
  (package / 'a.py').write_text('a = 2\n')
  assert checkout.commit(package) == f'{short}+'
  git(package, 'add', '.')
  assert checkout.commit(package) == f'{short}+'
  git(package, 'commit', '--quiet', '--message=two')
  assert checkout.commit(package) == head(package)[: len(short)] != short
  (package / 'b.py').write_text('b = 1\n')
  assert checkout.commit(package)[-1] == '+'


def test_a_worktree_has_its_own_commit(package):
  short = checkout.commit(package)
  tree = package.parent.parent / 'tree'
  git(package, 'worktree', 'add', '--quiet', tree)
  (package / 'a.py').write_text('a = 2\n')
  assert checkout.commit(tree / SOURCE) == short


def test_a_package_inside_anothers_checkout_has_no_commit(package):
  site = package.parent / 'env' / 'site-packages' / SOURCE
  site.mkdir(parents=True)
  assert checkout.commit(site) == ''
  # Nor if what looks like a checkout is none.
  (site.parent / '.git').mkdir()
  assert checkout.commit(site) == ''


def test_the_environment_names_no_other_checkout(package, monkeypatch):
  short = checkout.commit(package)
  monkeypatch.setenv('GIT_DIR', str(tiny.TESTS.parent / '.git'))
  monkeypatch.setenv('GIT_WORK_TREE', str(tiny.TESTS.parent))
  monkeypatch.setenv('GIT_INDEX_FILE', '/nowhere')
  assert checkout.commit(package) == short


def test_no_program_of_a_checkout_is_started(package):
  told = package.parent.parent / 'told'
  script = package.parent.parent / 'script'
  script.write_text(f'#!/bin/sh\ntouch {told}\n')
  script.chmod(0o755)
  git(package, 'config', 'core.fsmonitor', str(script))
  git(package, 'status')
  assert told.exists()
  told.unlink()
  assert checkout.commit(package)
  assert not told.exists()


@pytest.mark.parametrize('program', [None, 'exit 1'])
def test_a_git_that_cannot_tell_is_no_end(
  package, tmp_path, monkeypatch, program
):
  own_git(tmp_path, monkeypatch, program)
  assert checkout.commit(package) == ''


def test_a_git_that_hangs_is_no_end(package, tmp_path, monkeypatch):
  own_git(tmp_path, monkeypatch, f'exec {shutil.which("sleep")} 1000')
  monkeypatch.setattr(checkout, '_SECONDS', 0.5)
  before = psutil.Process().children()
  assert checkout.commit(package) == ''
  # It was killed, and may not have been waited for.
  left = set(psutil.Process().children()) - set(before)
  assert not psutil.wait_procs(left, GUARD)[1]


def own_git(folder, monkeypatch, program):
  """The only program on PATH is a git that does this; None: there is none."""
  (folder / 'bin').mkdir()
  if program:
    (folder / 'bin' / 'git').write_text(f'#!/bin/sh\n{program}\n')
    (folder / 'bin' / 'git').chmod(0o755)
  monkeypatch.setenv('PATH', str(folder / 'bin'))


def test_what_is_here():
  found = versions.here()
  assert found.version == acereason_jax.__version__
  assert (found.jax, found.device) == (jax.__version__, 'cpu')
  assert found.devices == len(jax.devices())
  # Of the tests' own checkout, if they run in one.
  root = pathlib.Path(acereason_jax.__file__).parents[1]
  if (root / '.git').exists():
    assert git(root, 'rev-parse', 'HEAD').startswith(found.commit.rstrip('+'))
  assert not [text for text in found if str(root) in str(text)]


def test_setup_has_the_packages_version():
  pytest.importorskip('setuptools')
  root = pathlib.Path(acereason_jax.__file__).parents[1]
  found = subprocess.run(
    [sys.executable, 'setup.py', '--version'],
    cwd=root,
    check=True,
    capture_output=True,
    text=True,
  )
  assert found.stdout.split()[-1] == acereason_jax.__version__
