"""No process that reads what strangers wrote learns the trainer's secrets."""

import contextlib
import subprocess

import pyarrow
import pyarrow.parquet
import pytest
import tiny

from acereason_jax import children
from acereason_jax.data import sources
from acereason_jax.models import tokens
from acereason_jax.verifiers.pool import process
from acereason_jax.verifiers.programs import jail


class _Seen(Exception):
  pass


def parquet(folder):
  table = pyarrow.table(dict(problem=['1 + 1?'], answer=['2']))
  pyarrow.parquet.write_table(table, folder / 'a.parquet')
  sources.parquet(folder / 'a.parquet')


def tokenizer(folder):
  tiny.write_model(folder / 'model')
  tokens.load_tokenizer(folder / 'model')


STARTS = {
  'parquet': parquet,
  'tokenizer': tokenizer,
  'judge': lambda folder: process.Process(b'').start(),
  'programs': lambda folder: jail.Jail('T2').start(),
}


@pytest.mark.parametrize('name', STARTS)
def test_a_child_gets_no_secret(name, tmp_path, monkeypatch):
  given = []

  def start(*args, env=None, **kwargs):
    given.append(env)
    raise _Seen

  monkeypatch.setenv('HF_TOKEN', 'secret')
  monkeypatch.setattr(subprocess, 'Popen', start)
  with contextlib.suppress(_Seen):
    STARTS[name](tmp_path)
  (env,) = given
  assert env is not None and 'HF_TOKEN' not in env


def test_what_a_child_is_given_comes_last(monkeypatch):
  monkeypatch.setenv('PATH', '/somewhere')
  env = children.environment(OMP_NUM_THREADS='2', MINE='x')
  assert env['PATH'] == '/somewhere' and env['MINE'] == 'x'
  assert env['OMP_NUM_THREADS'] == '2'
