"""README and docs/ say what is so: links, flags, lines of configs, commands."""

import ast
import importlib.util
import pathlib
import re
import shlex
import sys

import pytest
import tiny
import walk
from absl import flags
from ml_collections import config_flags

from acereason_jax.config import checks, evaluation, reader, stages
from acereason_jax.models import families
from acereason_jax.rl import optim
from acereason_jax.run import parts

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
  *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')),
  *sorted((ROOT / 'docs').glob('*.md')),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
# A section says where a command was run by a commit and a date.
RUN_AT = re.compile(r'[0-9a-f]{7}[\s\S]{0,60}?\d{4}-\d\d-\d\d')
NOT_RUN = re.compile('No\\saccelerator has run|are not run by')


def anchors(text):
  """The fragments that a code host gives to a page's titles."""
  titles = re.findall(r'^#+ (.*)$', text, flags=re.M)
  plain = [re.sub(r'[^\w\- ]', '', title.lower()) for title in titles]
  return {title.strip().replace(' ', '-') for title in plain}


def links():
  for name, text in TEXTS.items():
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
      if not target.startswith('http'):
        yield name, target


@pytest.mark.parametrize('name', TEXTS)
def test_links_lead_somewhere(name):
  found = [target for page, target in links() if page == name]
  for target in found:
    path, _, fragment = target.partition('#')
    file = (ROOT / name).parent / path if path else ROOT / name
    assert file.exists(), target
    if fragment:
      assert fragment in anchors(file.read_text()), target


def test_the_face_is_short_and_its_contents_are_its_sections():
  text = TEXTS['README.md']
  assert len(text.splitlines()) <= 250
  listed = {target for page, target in links() if page == 'README.md'}
  for title in re.findall(r'^## (.*)$', text, flags=re.M):
    assert f'#{title.lower().replace(" ", "-")}' in listed, title
  pages = {str(p.relative_to(ROOT)) for p in (ROOT / 'docs').glob('*.md')}
  assert pages <= listed


def blocks(text):
  """Indented blocks, without their indent."""
  for block in re.findall(r'(?:(?<=\n\n)|\A)((?:    .*\n|\n(?=    ))+)', text):
    yield re.sub('^    ', '', block, flags=re.M)


def items(block):
  """(flags, code) of a block, a pair for each run of lines under comments."""
  for part in re.split(r'^#.*\n(?!#)', block, flags=re.M):
    lines = [line for line in part.splitlines() if not line.startswith('#')]
    flag_lines = [line for line in lines if line.startswith('--')]
    code = '\n'.join(line for line in lines if not line.startswith('--'))
    yield flag_lines, code


def settings():
  for name, text in TEXTS.items():
    for block in blocks(text):
      for flag_lines, code in items(block):
        for line in flag_lines:
          yield pytest.param(line, '', id=f'{name}:{line[:60]}')
        if re.match(r'(c\.|with c\.)', code) and '...' not in code:
          yield pytest.param('', code, id=f'{name}:{code[:60]}')


def parsed(words, monkeypatch):
  """The config that a command line gives; its values are checked."""
  values = flags.FlagValues()
  config_flags.DEFINE_config_file('config', flag_values=values)
  if not any(word.startswith('--config=') for word in words):
    words = [f'--config={ROOT}/configs/acereason_7b.py', *words]
  # ml_collections reads the overrides from here.
  monkeypatch.setattr(sys, 'argv', ['train', *words])
  values(sys.argv)
  return values.config


@pytest.mark.parametrize('line, code', list(settings()))
def test_flags_and_lines_of_configs_are_valid(line, code, monkeypatch):
  monkeypatch.chdir(ROOT)
  if 'c.benchmarks' in code:
    config = evaluation.get_config()
    exec(code, dict(c=config, evaluation=evaluation))  # Our own page.
    evaluation.plan(config)
    return
  config = parsed(shlex.split(line), monkeypatch)
  config.unlock()
  config.model = config.model or 'somewhere'
  exec(code, dict(c=config))  # Our own page.
  if 'domains' not in code:
    checks.validate(config)
  if 'my_' not in line + code:
    c = reader.Reader(config)
    parts.build_loss(c)
    parts.build_control(c.objective, 'entropy_bonus', 'objective.entropy_bonus')
    optim.make_optimizer(
      parts.optimizer_component(c),
      families.from_config(tiny.LLAMA).specs,
      warmup_steps=c.optim.warmup_steps,
      clip_norm=c.optim.clip_norm,
    )


def stages_in(block):
  """The arguments of every dict(name=...) in a block of Python."""
  for node in ast.walk(ast.parse(block)):
    if isinstance(node, ast.Call) and 'name' in [w.arg for w in node.keywords]:
      yield ', '.join(map(ast.unparse, node.keywords))


def overrides():
  """What the pages say that stages change, in lines and in tables."""
  for name, text in TEXTS.items():
    found = re.findall(
      r'`((?:rollout|filter|optim|objective)=dict\([^`]*\))`', text
    )
    for block in blocks(text):
      if 'dict(name=' in block:
        found += stages_in(block.replace(', ...)', ')'))
    for each in found:
      yield pytest.param(each, id=f'{name}:{each[:40]}')


@pytest.mark.parametrize('text', list(overrides()))
def test_what_the_pages_have_stages_change_may_be_changed(text):
  changes = dict(name='one') | eval(f'dict({text.replace(", ...", "")})')
  config = tiny.shipped('recipe_cpu').get_config()
  with config.unlocked():
    config.stages = (changes,)
  config = stages.every_stage(config)[changes['name']]
  checks.check_shape(config)


def test_all_blocks_with_lines_of_configs_parse():
  found = [b for text in TEXTS.values() for b in blocks(text) if '\nc.' in b]
  assert len(found) >= 3
  for block in found:
    for _, code in items(block):
      ast.parse(code)


def every_command():
  """(page, section, command), also those within a line."""
  for name, text in TEXTS.items():
    if name == 'CHANGELOG.md':  # It tells what was.
      continue
    for title, section in walk.sections(text).items():
      inside = re.findall(r'`(?:[^`]*&& )?(python [^`]*)`', section)
      for command in (*walk.commands(section), *inside):
        yield name, title, section, ' '.join(command.split())


def test_every_command_is_run_by_ci_or_says_where_it_was_run():
  ci = (ROOT / '.ci' / 'run').read_text()
  assert 'python tests/walk.py' in ci
  walked = set(walk.walked())
  loose = [
    f'{name}, {title}: {command}'
    for name, title, section, command in every_command()
    if command not in walked
    and command not in ci
    and not re.match('python -m pytest -q (-n 0 )?tests/', command)
    and not RUN_AT.search(section)
    and not NOT_RUN.search(section)
  ]
  assert not loose, '\n'.join(loose)


def test_every_command_names_a_module_or_a_file():
  found = [command.split() for *_, command in every_command()]
  assert len(found) > 20
  for words in found:
    if words[1] == '-m':
      assert importlib.util.find_spec(words[2].strip(':;,')), words
    elif words[1] != '-c':
      assert (ROOT / words[1]).is_file(), words
