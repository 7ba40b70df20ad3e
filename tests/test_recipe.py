"""The shipped recipes: their prompts to the byte, and what each stage does.

Prompts and orders are written out here, by hand, from the papers and the model
cards; no model of 7B is needed to read a config.
"""

import functools
import json

import pytest
import tiny
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from acereason_jax.config import checks, fields
from acereason_jax.config import stages as stages_lib
from acereason_jax.curriculum import ledger
from acereason_jax.data import sources
from acereason_jax.models import tokens
from acereason_jax.run import build, loop, values

acereason_7b = tiny.shipped('acereason_7b')
acereason_14b = tiny.shipped('acereason_14b')
acereason_1_1_7b = tiny.shipped('acereason_1_1_7b')

CHATML = (
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] "
  "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
  "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
R1 = (
  "{{ bos_token }}{% for m in messages %}{{ '<|User|>' + m['content'] }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}"
)
# As DeepSeek changed it later.
R1_OPENED = R1.replace("'<|Assistant|>'", "'<|Assistant|><think>\n'")

PROGRAM_1_0 = """<s><|User|>Add two numbers.

Write Python code to solve the problem. Please place the solution code in the following format:
```python
# Your solution code here
```<|Assistant|><think>
"""  # noqa: E501
STARTED_1_0 = """<s><|User|>Add two numbers.

Solve the problem starting with the provided function header.

Function header:
```
class Solution:
    def add(self, a: int) -> dict:  # {}
```

Please place the solution code in the following format:
```python
# Your solution code here
```<|Assistant|><think>
"""
MATH_1_0 = """<s><|User|>What is $1+1$?
Please reason step by step, and put your final answer within \\boxed{}.\
<|Assistant|><think>
"""
HEAD_1_1 = """<|im_start|>system
You are a helpful and harmless assistant. You should think step-by-step.\
<|im_end|>
<|im_start|>user
"""
TAIL_1_1 = """<|im_end|>
<|im_start|>assistant
<think>
"""
MATH_1_1 = """What is $1+1$?

Please place your final answer inside \\boxed{}."""
in_chatml = lambda text: HEAD_1_1 + text + TAIL_1_1
as_chatml = lambda text: in_chatml(
  text.removeprefix('<s><|User|>').removesuffix('<|Assistant|><think>\n')
)

STARTER = 'class Solution:\n    def add(self, a: int) -> dict:  # {}'
MATH_ROW = dict(problem='What is $1+1$?', answer='2')
CODE_ROW = dict(problem='Add two numbers.', answer='{}')


def tokenizer_of(folder, template):
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  vocab = {t: i for i, t in enumerate(['<s>', '</s>', *alphabet])}
  tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens(['<s>', '</s>'])
  tags = [AddedToken(t, normalized=False) for t in ('<think>', '</think>')]
  tokenizer.add_tokens(tags)
  tokenizer.save(str(folder / 'tokenizer.json'))
  told = dict(eos_token='</s>', bos_token='<s>', chat_template=template)
  (folder / 'tokenizer_config.json').write_text(json.dumps(told))
  return tokens.load_tokenizer(folder)


def prompt_of(config, domain, row, folder, template):
  """The text of the prompt that a run of `config` makes of a row of a file."""
  tokenizer = tokenizer_of(folder, template)
  (folder / 'rows.jsonl').write_text(json.dumps(row) + '\n')
  c = stages_lib.domains(config)[domain].prompt
  tokens.check_thinking(tokenizer, (1,), opens=c.opens, reasons=c.reasons)
  (prompt,), _ = sources.to_prompts(
    sources.jsonl(folder / 'rows.jsonl'),
    tokenizer,
    chats_tokens=functools.partial(tokens.chats_tokens, opens=c.opens),
    system=c.system or None,
    examples=c.examples,
    suffix=c.suffix,
    starter=c.starter,
    max_tokens=c.window,
  )
  return tokenizer.decode(prompt.tokens.tolist(), skip_special_tokens=False)


@pytest.mark.parametrize('template', [R1, R1_OPENED])
@pytest.mark.parametrize(
  'domain, row, text',
  [
    ('math', MATH_ROW, MATH_1_0),
    ('math', dict(MATH_ROW, problem='\n What is $1+1$?\n\n'), MATH_1_0),
    ('code', CODE_ROW, PROGRAM_1_0),
    ('code', CODE_ROW | dict(starter=STARTER), STARTED_1_0),
    ('code', CODE_ROW | dict(starter=None), PROGRAM_1_0),
    ('code', CODE_ROW | dict(starter=''), PROGRAM_1_0),
    ('code', CODE_ROW | dict(starter=' \n'), PROGRAM_1_0),
  ],
)
def test_the_prompts_of_1_0(tmp_path, template, domain, row, text):
  for config in (acereason_7b.get_config(), acereason_14b.get_config()):
    assert prompt_of(config, domain, row, tmp_path, template) == text


@pytest.mark.parametrize(
  'domain, row, text',
  [
    ('math', MATH_ROW, in_chatml(MATH_1_1)),
    ('code', CODE_ROW, as_chatml(PROGRAM_1_0)),
    ('code', CODE_ROW | dict(starter=STARTER), as_chatml(STARTED_1_0)),
  ],
)
def test_the_prompts_of_1_1(tmp_path, domain, row, text):
  config = acereason_1_1_7b.get_config()
  assert prompt_of(config, domain, row, tmp_path, CHATML) == text


def test_a_starter_that_the_prompt_has_no_words_for(tmp_path):
  config, row = acereason_7b.get_config(), MATH_ROW | dict(starter='def f():')
  message = r"has a starter, .* starter='' has no place for it; give config\.p"
  with pytest.raises(ValueError, match=message):
    prompt_of(config, 'math', row, tmp_path, R1)


def test_a_starter_belongs_to_its_row():
  row = sources.Row('a', 'q', '1')
  other = sources.Row('a', 'q', '1', starter='def f():')
  assert sources.digest([row]) != sources.digest([other])
  assert sources.digest([other]) != sources.digest(
    [sources.Row('a', 'q', '1', starter='def g():')]
  )


def test_words_for_a_starter_have_one_place_for_it(tmp_path):
  config = tiny.config(tmp_path)
  for words in ('header:', '{starter} or {starter}'):
    config.prompt.starter = words
    with pytest.raises(
      ValueError, match=r'config\.prompt\.starter=.* with one'
    ):
      checks.validate(config)


PUBLISHED = ['math_8k', 'math_16k', 'math_24k', 'code_24k', 'code_32k']
PUBLISHED += ['math_32k']


def resolved(config):
  checks.validate(config)
  return stages_lib.stages(config)


@pytest.mark.parametrize('module', [acereason_7b, acereason_14b])
@pytest.mark.parametrize(
  'order, names, domains',
  [
    ('', PUBLISHED, ['code', 'math']),
    ('math_only', PUBLISHED[:3], ['math']),
    ('code_only', PUBLISHED[3:5], ['code']),
    ('code_first', PUBLISHED[3:5] + PUBLISHED[:3], ['code', 'math']),
    ('start_16k', PUBLISHED[1:3], ['math']),
    ('start_24k', PUBLISHED[2:3], ['math']),
  ],
)
def test_orders_of_stages(module, order, names, domains):
  config = module.get_config(order)
  stages = resolved(config)
  assert list(stages) == names and sorted(config.domains) == domains
  # A stage is the same in each order that has it.
  published = resolved(module.get_config())
  for name, stage in stages.items():
    whole = {f: stage[f] for f in fields.STAGE}
    assert whole == {f: published[name][f] for f in fields.STAGE}
  assert config.checkpoint.best.removeprefix('heldout/') in domains


def test_what_the_stages_of_1_0_are():
  stages = resolved(acereason_7b.get_config())
  tokens_of = [c.rollout.max_tokens for c in stages.values()]
  assert tokens_of == [8192, 16384, 24576, 24000, 32768, 32768]
  filters = [next(iter(stages_lib.filters(c).items())) for c in stages.values()]
  assert [domain for domain, _ in filters] == [n[:4] for n in PUBLISHED]
  probes = [(f['of'], f['max_solved']) for _, f in filters]
  assert probes == [(0, 0), (0, 0), (16, 6), (0, 0), (0, 0), (16, 6)]
  assert [f['drop_solved'] for _, f in filters] == [False] * 4 + [True, False]
  rates = [c.optim.learning_rate for c in stages.values()]
  assert rates == [1e-6, 1e-6, 1e-6, 5e-6, 5e-6, 1e-6]
  sizes = [c.rollout.per_prompt for c in stages.values()]
  assert sizes[:4] + sizes[5:] == [8, 16, 16, 8, 16]
  assert tuple(sizes[4]['values']) == (8, 12, 16)
  ends = [c.stop.metric for c in stages.values()]
  assert ends == [''] + ['same_prompts'] * 5


@pytest.mark.parametrize(
  'name, of, max_solved',
  [('full', 0, 0), ('easy', 16, 14), ('medium', 16, 10), ('hard', 16, 6)],
)
def test_prompts_of_table_3(name, of, max_solved):
  stages = resolved(acereason_7b.get_config(name))
  assert list(stages) == PUBLISHED[:3]
  own = stages_lib.filters(stages['math_24k'])['math']
  assert (own['of'], own['max_solved']) == (of, max_solved)
  # The stages before are those of every other one: they can be shared.
  for before in PUBLISHED[:2]:
    assert stages_lib.filters(stages[before])['math']['of'] == 0


def test_difficulty_of_14b():
  stages = resolved(acereason_14b.get_config())
  assert stages_lib.filters(stages['code_24k'])['code']['max_difficulty'] == 7.0
  assert acereason_14b.get_config().model.endswith('14B')


def test_an_order_that_there_is_not():
  for module in (acereason_7b, acereason_14b, acereason_1_1_7b):
    with pytest.raises(ValueError, match="'backwards': there "):
      module.get_config('backwards')


def test_what_the_stages_of_1_1_are():
  stages = resolved(acereason_1_1_7b.get_config())
  assert list(stages) == PUBLISHED
  own = {n: stages_lib.filters(c)[n[:4]] for n, c in stages.items()}
  assert own['math_8k']['max_difficulty'] == 4.0
  assert own['math_16k']['max_difficulty'] == -1.0
  # Only for prompts that all of 16 rollouts solved.
  for name in ('math_24k', 'math_32k'):
    assert (own[name]['of'], own[name]['max_solved']) == (16, 15)
  assert own['code_32k']['drop_solved']
  temperatures = [c.rollout.temperature for c in stages.values()]
  assert {t.fn for t in temperatures} == {
    'acereason_jax.rl.control:near_entropy'
  }
  other = resolved(acereason_1_1_7b.get_config('without_difficulty'))
  assert stages_lib.filters(other['math_8k'])['math']['max_difficulty'] == -1.0


def of_tiny(config, folder):
  """A recipe's stages over the tiny model, its files and its judge."""
  small = tiny.config(folder)
  small.domains = {
    name: {}
    if name == 'math'
    else dict(train_data=dict(path=str(folder / 'others.jsonl')))
    for name in config.domains
  }
  small.stages = tuple(
    {f: v for f, v in stage.items() if f not in ('microbatch', 'objective')}
    | dict(rollout={**stage['rollout'], 'max_tokens': 8})
    for stage in config.stages
  )
  return small


def test_mathematics_needs_no_files_of_code(folder):
  config = of_tiny(acereason_7b.get_config('math_only'), folder)
  run = build.build(config)
  assert list(run.domains) == ['math'] and len(run.stages) == 3
  # With the ids that a run of both would give them.
  assert run.domains['math'].prompts['train_data'][0].id.startswith('math/')


def test_temperature_is_carried_and_groups_begin_anew(folder):
  """By the recipe of 1.1, from one stage's end to the next one's beginning."""
  config = of_tiny(acereason_1_1_7b.get_config('without_difficulty'), folder)
  config.stages = tuple(
    dict(s, filter={}) for s in config.stages if s['name'][0] == 'm'
  )
  run = build.build(config)
  prompts = {name: domain.prompts for name, domain in run.domains.items()}
  tools = values.Tools(prompts, judges={}, journal=None, stop=None)
  state = run.stages[0].init(run.load_params())
  at = values.Standing(
    state,
    values.Progress(
      'math_8k', step=3, stage_step=3, carried=dict(temperature=0.93)
    ),
    ledger.Ledger(),
  )
  enter = lambda stage, at: loop.enter(run, run.stages[stage], at, tools)[0]
  at = enter(1, at)
  assert at.progress.temperature == 0.93 and at.progress.groups == 16
  assert at.progress.carried == dict(temperature=0.93)
  beyond = at._replace(
    progress=at.progress._replace(carried=dict(temperature=7))
  )
  assert enter(2, beyond).progress.temperature == 1.2
  new = at._replace(progress=at.progress._replace(carried={}))
  assert enter(2, new).progress.temperature == 0.85


def test_filters_by_domain(folder):
  config = tiny.staged(folder)
  config.stages = (
    dict(
      name='both',
      mix=dict(math=1, code=1),
      filter=dict(
        drop_solved=True,
        readmit=0.1,
        domains=dict(math=dict(of=16, max_solved=6, drop_solved=False)),
      ),
    ),
  )
  checks.validate(config)
  (stage,) = build.build(config).stages
  assert (
    stage.filters['math'].max_solved == 6 and stage.filters['math'].of == 16
  )
  assert not stage.filters['math'].drop_solved
  assert stage.filters['code'].drop_solved and stage.filters['code'].of == 0
  assert stage.filters['math'].readmit == stage.filters['code'].readmit == 0.1


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(poetry={}), r'config\.filter\.domains\.poetry: no such domain; '),
    (dict(code=dict(maxsolved=3)), r'\.filter\.domains\.code\.maxsolved=3: no'),
    (
      dict(code=dict(max_solved=3)),
      r'\.filter\.domains\.code\.max_solved=3: gi',
    ),
    (dict(code=dict(of=2.5)), r'\.filter\.domains\.code\.of=2\.5: .* type int'),
    (
      dict(code=3),
      r'\.filter\.domains\.code=3: give a dict of what it changes',
    ),
    (
      dict(code=dict(readmit=2.0)),
      r'\.filter\.domains\.code\.readmit=2\.0: giv',
    ),
  ],
)
def test_a_bad_filter_of_a_domain(folder, changes, message):
  config = tiny.staged(folder)
  config.stages = (
    dict(name='x', mix=dict(code=1), filter=dict(domains=changes)),
  )
  with pytest.raises(ValueError, match=message):
    checks.validate(config)


BY_EPOCH = dict(fn='acereason_jax.rl.control:by_epoch')


@pytest.mark.parametrize(
  'rollout, message',
  [
    (
      dict(per_prompt=BY_EPOCH | dict(values=(1, 4))),
      'goes down to 1; a group of',
    ),
    (
      dict(per_prompt=BY_EPOCH | dict(values=())),
      r'config\.rollout\.per_prompt: ',
    ),
  ],
)
def test_a_bad_number_of_rollouts(folder, rollout, message):
  config = tiny.config(folder)
  config.stages = (dict(name='x', rollout=rollout),)
  checks.validate(config)
  with pytest.raises(ValueError, match=message):
    build.build(config)


@pytest.mark.parametrize('metric', ['reward', 'pass_rate', 'solved_share'])
@pytest.mark.parametrize(
  'leave', [dict(drop_solved=True), dict(keep_unsolved=False)]
)
def test_an_end_that_the_filter_would_bring_about(folder, metric, leave):
  config = tiny.config(folder)
  stop = dict(metric=metric, window=2)
  config.stages = (dict(name='x', stop=stop, filter=leave),)
  message = f"config.stop.metric='{metric}': the filter of 'main' takes prompts"
  with pytest.raises(ValueError, match=message):
    build.build(config)
  config.stages = (
    dict(name='x', stop=dict(stop, metric='same_prompts'), filter=leave),
  )
  assert build.build(config).stages[0].stop.metric == 'same_prompts'


def test_looks_by_domain(folder):
  config = tiny.staged(folder)
  config.domains.math.heldout = dict(every=2, per_prompt=5)
  run = build.build(config)
  assert [stage.evaluate_every for stage in run.stages] == [
    dict(math=2),
    dict(math=2),
    dict(math=2, code=3),
  ]
  assert {n: d.heldout_per_prompt for n, d in run.domains.items()} == dict(
    math=5, code=1
  )
  config.domains.code.heldout = dict(every=0)
  with pytest.raises(
    ValueError, match=r"config\.checkpoint\.best='heldout/code' needs"
  ):
    build.build(config)


def test_stages_have_their_own_looks_and_domains_come_first(folder):
  config = tiny.staged(folder)
  short, long, both = config.stages
  config.stages = (short | dict(heldout=dict(every=5)), long, both)
  config.domains.code.heldout = dict(every=7)
  looks = [stage.evaluate_every for stage in build.build(config).stages]
  assert looks == [dict(math=5), dict(math=3), dict(math=3, code=7)]
  # A stage by itself is as it is in the whole run.
  config.start.stages, config.start.run = ('math_long',), str(folder)
  assert stages_lib.looks(config)['math_long'] == dict(math=3)
  assert build.build(config).stages[0].evaluate_every == dict(math=3)
  with config.unlocked():
    config.stages = (short | dict(heldout=dict(every=-1)), long, both)
    config.start.stages = ()
  with pytest.raises(
    ValueError, match=r"'math_short': config\.heldout\.every=-1"
  ):
    checks.validate(config)


def test_a_domain_that_no_stage_trains_on_is_watched_in_all(folder):
  config = tiny.staged(folder)
  with config.unlocked():
    config.domains.other = dict(config.domains.code, heldout=dict(every=4))
  looks = stages_lib.looks(config)
  assert looks['math_short'] == dict(math=3, other=4)
  assert looks['both'] == dict(math=3, code=3, other=4)
  config.checkpoint.best = 'heldout/other'
  build.build(config)


def test_a_stage_cannot_wait_for_a_metric_that_it_does_not_measure(folder):
  config = tiny.staged(folder)
  *others, both = config.stages
  stop = dict(stop=dict(metric='heldout/code', window=2))
  config.stages = (*others, both | stop)
  assert build.build(config).stages[2].stop.metric == 'heldout/code'
  config.stages = (others[0] | stop, others[1], both)
  with pytest.raises(
    ValueError,
    match=r"'math_short': .*'heldout/code': a stage without this domain in its "
    r"mix asks .*give heldout/math, or add 'code'",
  ):
    build.build(config)
