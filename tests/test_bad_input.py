"""Mistakes of users: each gives one line, naming field and remedy."""

import contextlib
import json
import pathlib
import re
import shutil

import forked
import hostile_files
import jax
import jax.monitoring
import ml_collections
import pytest
import tiny

from acereason_jax import export, train
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import checks, reader
from acereason_jax.console import exits
from acereason_jax.curriculum import ledger, parquet
from acereason_jax.run import resuming, saving, start, values


@pytest.fixture
def config(folder):
  return tiny.config(folder)


@contextlib.contextmanager
def compiled():
  """A list that what is compiled meanwhile is added to."""
  seen = []

  def listen(event, seconds, **kwargs):
    if event == '/jax/core/compile/backend_compile_duration':
      seen.append(kwargs)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield seen
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def refused(config, match):
  """Checks that `config` ends with one line before anything is compiled."""
  errors = ValueError, OSError
  with compiled() as seen, pytest.raises(errors, match=match) as caught:
    checks.validate(config)
    train.build(config)
  assert '\n' not in str(caught.value)
  assert not seen


def test_what_is_compiled_is_seen():
  with compiled() as seen:
    jax.jit(lambda x: x + 1)(1)
  assert len(seen) == 1


def test_the_tiny_config_builds(config):
  checks.validate(config)
  assert train.build(config).stages[0].stop.steps == 4


@pytest.mark.parametrize(
  'section, field, value, message',
  [
    ('rollout', 'per_prompt', 1, r'\.rollout\.per_prompt=1: a group of 1 has'),
    ('rollout', 'temperature', 0.0, r'config\.rollout\.temperature=0\.0: .*'),
    ('engine', 'slots', 6, r'config\.engine\.slots=6: not a multiple of 4, '),
    ('engine', 'chunk', 3, r'config\.engine\.chunk=3: give a divisor of .*=4'),
    ('engine', 'pages', 10, r'config\.engine: pages=.* rollout, .* needs 6'),
    ('engine', 'pages', 10**9, r'config\.engine: pages=.* or slots=\d+ of 12 '),
    ('engine', 'prefill_tokens', 6, r'prefill_tokens=6: give a multiple of'),
    ('engine', 'kv_dtype', 'int4', r"kv_dtype='int4':  or float32 or"),
    (
      'objective',
      'policy',
      'raw',
      r"\.objective\.policy='raw': tempered or full",
    ),
    ('microbatch', 'columns', 19, r'config\.microbatch\.columns=19: .* 20'),
    ('microbatch', 'rows', 0, r'config\.microbatch\.rows=0: give at least 1'),
    ('mesh', 'data', 3, r'config\.mesh: data=3 .* does not cover 4 devices'),
    ('mesh', 'fsdp', 0, r'config\.mesh: .*fsdp=0.* does not cover 4 devices'),
    ('rollout', 'max_tokens', 60, r'config\.microbatch\.columns=32: .* 72'),
    ('optim', 'learning_rate', float('nan'), r'learning_rate=nan: give more'),
    (
      'optim.transform',
      'fn',
      'optax:adamv',
      r"config\.optim\.transform\.fn='optax:adamv': .* no",
    ),
    (
      'optim.transform',
      'fn',
      'adamw',
      r"config\.optim\.transform\.fn='adamw': expected 'package",
    ),
    (
      'optim.transform',
      'fn',
      'optax:contrib',
      r'fn=.*: of type module, .* a function',
    ),
    (
      'optim.transform',
      'fn',
      'optax:softmax_cross_entropy',
      r'\.fn=.* no learning_rate',
    ),
    (
      'optim.transform',
      'fn',
      'acereason_jax.rl.losses:clipped',
      r'transform\.fn=.*: clip_l',
    ),
    (
      'optim.transform',
      'fn',
      'builtins:dict',
      r"transform\.fn='builtins:dict': expected a",
    ),
    (
      'optim.transform',
      'fn',
      'collections:Counter',
      r'fn=.*Counter.*: gave a Counter',
    ),
    (
      'objective.loss',
      'fn',
      'builtins:dict',
      r"config\.objective\.loss\.fn='builtins:dict': expect",
    ),
    (
      'objective.loss',
      'fn',
      'none_such:f',
      r"config\.objective\.loss\.fn='none_such:f': cannot",
    ),
    ('train_data', 'fn', 'json:nope', r"config\.train_data\.fn='json:nope'"),
    ('train_data', 'path', '/none/train.jsonl', r'/none/train\.jsonl'),
    (None, 'model', '/none/such', r"model='/none/such': no such directory"),
    (None, 'dtype', 'float16', r"config\.dtype='float16': bfloat16 or"),
    ('lora', 'rank', -1, r'config\.lora\.rank=-1: give 0 \(full training\) or'),
    ('lora', 'alpha', 0.0, r'config\.lora\.alpha=0\.0: give more than 0'),
    ('lora', 'alpha', float('nan'), r'config\.lora\.alpha=nan: give more'),
    ('objective', 'average', 'x', r"\.objective\.average='x': token or group"),
    (None, 'steps', 0, r'config\.steps=0: give at least 1'),
    (None, 'seed', -1, r'config\.seed=-1: give 0 to'),
    ('judge', 'max_failed_share', -0.1, r'max_failed_share=-0\.1: give 0 to 1'),
    ('judge', 'timeout_seconds', 1e9, r'timeout_seconds=1000.* at most 3600'),
    # The tiny config's limit of one verdict is 60.
    (
      'judge',
      'batch_seconds',
      60.0,
      r'batch_seconds=60\.0: give more than .*60',
    ),
    ('judge', 'batch_seconds', float('nan'), r'batch_seconds=nan: give more'),
  ],
)
def test_a_bad_value(config, section, field, value, message):
  config.update_from_flattened_dict(
    {f'{section}.{field}' if section else field: value}
  )
  refused(config, message)


def test_a_value_that_only_one_domain_has(config):
  config.domains = dict(sums={}, code=dict(judge=dict(timeout_seconds=300.0)))
  config.mix = dict(sums=1.0, code=1.0)
  config.judge.batch_seconds = 200.0
  refused(
    config,
    r"^domain 'code': config\.judge\.batch_seconds=200\.0: give more than "
    r'judge\.timeout_seconds=300\.0$',
  )
  # A domain cannot change this one.
  config.update(dict(judge=dict(batch_seconds=900.0), seed=-1))
  refused(config, r'^config\.seed=-1: give 0 to')


@pytest.mark.parametrize(
  'on, message',
  [
    ('embed', r"config\.lora\.on='embed': matches no matrix; .* layers\.gate"),
    ('layers.q(', r"config\.lora\.on='layers\.q\(': no regular expression"),
  ],
)
def test_adapters_of_nothing(config, on, message):
  config.lora.update(rank=2, on=on)
  refused(config, message)


@pytest.mark.parametrize('name', ['groups', 'decay_on'])
def test_a_parameter_that_adapters_leave_frozen(config, name):
  config.lora.update(rank=2, on=r'layers\.q')
  own = r'layers\.q_b'
  value = lambda regex: ((regex, 16.0),) if name == 'groups' else regex
  config.optim[name] = value(own)
  train.build(config)
  config.optim[name] = value('embed')
  refused(config, r"config\.optim\..*'embed'.*matches no .* layers\.q_a, ")


def test_longer_than_the_context(config):
  config.rollout.max_tokens = 60
  config.microbatch.columns = 72
  refused(config, r'config\.rollout\.max_tokens=60: with .*window=12 .* 64')


def test_a_misspelt_field_in_a_section_replaced_as_a_whole(config):
  config.rollout = dict(prompt=4, per_prompt=4, max_tokens=8, temperature=1.0)
  refused(config, r'config\.rollout\.prompt=4: no such field; .* has prompts')


def test_a_field_left_out_of_a_section(config):
  config.heldout = dict(temperature=0.6, top_p=0.95, top_k=0, max_tokens=0)
  refused(config, r'config\.heldout\.before: missing')


def test_a_field_left_out_of_the_judge(config):
  config.judge = dict(verify=dict(fn='tiny_judge:verify'), workers=1)
  refused(config, r'config\.judge\.batch_seconds: missing')


def test_a_value_of_another_type(config):
  config.rollout = dict(prompts='4', per_prompt=4, max_tokens=8, temperature=1)
  refused(config, r"config\.rollout\.prompts='4': give a value of type int")


def test_a_section_that_is_no_section(config):
  with config.ignore_type():
    config.mesh = 4
  refused(config, r'config\.mesh=4: give a dict')


def test_an_argument_that_a_component_does_not_take(config):
  config.optim.transform = dict(fn='optax:adamw', beta=0.9)
  refused(
    config,
    r"config\.optim\.transform: optax:adamw .* 'beta'.* accepts: learning",
  )


def test_a_field_that_nothing_reads(config):
  c = reader.Reader(config)
  c.kwargs()
  c.check_all_read([c], [c])
  whole = ml_collections.ConfigDict({**config, 'knob': 3})
  with pytest.raises(
    ValueError, match=r'config\.knob: nothing reads it; remove it'
  ):
    c.check_all_read([c.over(whole)], [c])


def test_a_file_without_rows(config, tmp_path):
  config.train_data.path = str(tmp_path / 'empty.jsonl')
  pathlib.Path(config.train_data.path).touch()
  refused(config, r'empty\.jsonl: holds no rows; name a file that has some')


def test_a_long_prompt_is_dropped_counted_and_named(config, tmp_path, capsys):
  path = tiny.write_questions(tmp_path / 'mixed.jsonl', 5)
  long = dict(id='the-long-one', prompt='1+' * 10 + '1?', answer='1')
  with path.open('a') as file:
    file.write(json.dumps(long) + '\n')
  config.train_data.path = str(path)
  train.build(config)
  assert capsys.readouterr().out == (
    'train_data: dropped 1 of 6 prompts longer than '
    'config.prompt.window=12 tokens: the-long-one\n'
  )


def test_all_prompts_too_long(config):
  config.prompt.window = 3
  refused(config, 'all 10 prompts|all 6 prompts')


@pytest.mark.parametrize(
  'missing', ['config.json', 'tokenizer.json', 'model.safetensors']
)
def test_an_incomplete_model_directory(config, tmp_path, missing):
  tiny.write_model(tmp_path / 'model')
  (tmp_path / 'model' / missing).unlink()
  config.model = str(tmp_path / 'model')
  if missing != 'model.safetensors':
    refused(config, f'{missing}: not found; expected a')
  else:
    # The weights are read last, after a checkpoint was looked for.
    with pytest.raises(OSError, match=f'holds neither {missing}'):
      start.begin(train.build(config))


def test_another_architecture(config, tmp_path):
  tiny.write_model(tmp_path / 'model')
  file = tmp_path / 'model' / 'config.json'
  file.write_text(
    json.dumps(tiny.LLAMA | {'architectures': ['GPT2LMHeadModel']})
  )
  config.model = str(tmp_path / 'model')
  refused(config, r"architecture 'GPT2LMHeadModel' is not supported; expected")


def test_a_config_json_that_lacks_a_field(config, tmp_path):
  tiny.write_model(tmp_path / 'model')
  file = tmp_path / 'model' / 'config.json'
  left = {k: v for k, v in tiny.LLAMA.items() if k != 'rms_norm_eps'}
  file.write_text(json.dumps(left))
  config.model = str(tmp_path / 'model')
  refused(config, r'config\.json: lacks rms_norm_eps; is it')


def test_a_tokenizer_of_another_model(config, tmp_path):
  tiny.write_model(tmp_path / 'model', vocab_size=20)
  config.model = str(tmp_path / 'model')
  refused(config, r'is outside its vocabulary of 20; is the tokenizer that of')


def test_heads_are_not_cut(config, tmp_path):
  few = dict(num_attention_heads=2, num_key_value_heads=2)
  tiny.write_model(tmp_path / 'model', **few)
  config.model = str(tmp_path / 'model')
  config.mesh.update(data=1, fsdp=1, tensor=4)
  refused(config, r'config\.mesh\.tensor x sequence=4: .* has 2 query and 2 kv')


def test_a_row_is_cut_evenly(config):
  config.mesh.update(data=1, fsdp=1, sequence=4)
  train.build(config)
  config.microbatch.columns = 30
  refused(
    config, r'config\.microbatch\.columns=30: .* config\.mesh\.sequence=4; '
  )


@pytest.mark.parametrize(
  'fn', ['optax:adafactor', 'optax:novograd', 'optax:sgd', 'optax.contrib:muon']
)
def test_an_optimizer_whose_state_is_no_copy_of_the_parameters(config, fn):
  config.optim.transform = dict(fn=fn)
  run = train.build(config)
  state = start.begin(run).state
  for leaf, abstract in zip(
    jax.tree.leaves(state), jax.tree.leaves(run.stages[0].abstract_state)
  ):
    assert leaf.sharding.is_equivalent_to(abstract.sharding, leaf.ndim)


def test_moments_lie_where_their_parameters_do(config):
  state = train.build(config).stages[0].abstract_state
  adam = state.opt_state[1][0]
  for moment in (adam.mu, adam.nu):
    assert (
      moment['layers']['q'].sharding == state.params['layers']['q'].sharding
    )
  assert not state.params['layers']['q'].sharding.is_fully_replicated


def test_moments_lie_in_the_hosts_memory_if_told_to(config):
  state = train.build(config).stages[0].abstract_state
  config.optim.offload = True
  run = train.build(config)
  offloaded, loaded = run.stages[0].abstract_state, start.begin(run).state
  adam = offloaded.opt_state[1][0]
  kinds = lambda tree: {x.sharding.memory_kind for x in jax.tree.leaves(tree)}
  assert kinds([adam.mu, adam.nu]) == {'pinned_host'}
  assert kinds([offloaded.params, adam.count]) == {'device'}
  place = lambda tree: jax.tree.map(lambda x: x.sharding, tree)
  assert place(loaded) == place(offloaded)
  # Adam has two moments, each as large as the parameters.
  freed = mesh_lib.device_bytes(state) - mesh_lib.device_bytes(offloaded)
  assert freed == 2 * mesh_lib.device_bytes(state.params)


def test_a_config_json_of_another_shape_than_the_weights(config, tmp_path):
  tiny.write_model(tmp_path / 'model')
  file = tmp_path / 'model' / 'config.json'
  file.write_text(json.dumps(tiny.LLAMA | {'num_hidden_layers': 3}))
  config.model = str(tmp_path / 'model')
  with pytest.raises(ValueError, match=r'lacks tensor .*another architecture'):
    start.begin(train.build(config))


def one_line_exit(run, workdir, match):
  with pytest.raises(SystemExit, match=match) as caught:
    train.train(run, workdir)
  assert str(caught.value).startswith('error: ')
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'flag, match',
  [
    ('--config=configs/nothing.py', "No such file .*'configs/nothing.py'"),
    ('--config=configs/acereason_7b.py:other', "order 'other': there are:"),
    (
      '--config=configs/base.py --config.steps=x',
      r'--config\.steps=x: invalid',
    ),
    ('--config=configs/base.py --configs.steps=3', "flag 'configs.steps'"),
  ],
)
def test_a_flag_that_is_no_good_is_one_line(flag, match, folder):
  process = forked.command(
    ['-m', 'acereason_jax.train', *flag.split()],
    tiny.environment(folder / 'compiled'),
    cwd=forked.ROOT,
  )
  (line,) = process.communicate()[0].splitlines()
  assert process.returncode == exits.USAGE
  assert re.match(f'error: .*{match}', line)


def saved_run(config, workdir):
  """A run that has saved its first step."""
  run = train.build(config)
  state = start.begin(run).state
  with saving.Checkpoints(workdir, keep=1) as checkpoints:
    meta = dict(
      config=run.config,
      data=run.digests,
      dropped=dict(main=dict(train_data=[], heldout_data=[])),
      seconds=0.0,
    )
    progress = values.Progress('main', step=1, stage_step=1)._asdict()
    known = parquet.to_bytes(ledger.Ledger())
    checkpoints.save(1, state, progress | dict(cursor={}), meta, known)
  return run


@pytest.fixture(scope='module')
def saved(folder, tmp_path_factory):
  """(config, workdir) of `saved_run`, beside a model that may be changed."""
  path = tmp_path_factory.mktemp('saved')
  config = tiny.config(folder)
  config.model = str(tiny.write_model(path / 'model'))
  saved_run(config, path / 'run')
  return config, path / 'run'


@pytest.fixture
def spoiled(saved):
  """`saved`, whose model and run are put back after the test."""
  config, workdir = saved
  folder = workdir.parent
  kept = folder.with_name(folder.name + '.kept')
  shutil.copytree(folder, kept)
  yield config, workdir, pathlib.Path(config.model)
  shutil.rmtree(folder)
  kept.rename(folder)


def earlier(config, workdir):
  run = train.build(config)
  with saving.Checkpoints(workdir, keep=1) as checkpoints:
    return resuming.read_meta(run, checkpoints)


def reversed_letters(model):
  letters = sorted(model['vocab'].items())
  ids = reversed([i for _, i in letters])
  return model | {'vocab': dict(zip([t for t, _ in letters], ids))}


PROMPTS = r'config\.(train|heldout)_data: gives prompts of other tokens'
STOPS = r'config\.model: responses end at other tokens .*\(\[1\] -> \['
DECODES = r'config\.model: the tokenizer has other tokens or decodes'
NETWORK = r'config\.model: config\.json describes another network'
TOKENIZER, SETTINGS = 'tokenizer.json', 'tokenizer_config.json'
GENERATION = 'generation_config.json'


@pytest.mark.parametrize(
  'change, match',
  [
    (hostile_files.template(tiny.TEMPLATE + '?'), PROMPTS),
    (hostile_files.raw('chat_template.jinja', '+{{ bos_token }}?'), PROMPTS),
    (
      hostile_files.changed(
        SETTINGS,
        chat_template=[
          {'name': 'default', 'template': tiny.TEMPLATE + 'b'},
          {'name': 'tool_use', 'template': tiny.TEMPLATE},
        ],
      ),
      PROMPTS,
    ),
    (hostile_files.tokenizer(model=reversed_letters), PROMPTS),
    (
      hostile_files.tokenizer(
        added_tokens=lambda old: [dict(t, special=False) for t in old]
      ),
      DECODES,
    ),
    (hostile_files.raw('added_tokens.json', '{"<new>": 44}'), DECODES),
    (hostile_files.changed(GENERATION, eos_token_id=[1, 5, 6]), STOPS),
    (hostile_files.changed(SETTINGS, eos_token='<user>'), STOPS),
    (hostile_files.network(rope_theta=501.0), NETWORK),
    (hostile_files.network(rms_norm_eps=2e-5), NETWORK),
  ],
)
def test_files_of_the_model_that_are_others_now(spoiled, change, match):
  config, workdir, model = spoiled
  change(model)
  with pytest.raises(ValueError, match=match) as error:
    earlier(config, workdir)
  said = str(error.value)
  assert 'put it back, or use another --workdir' in said and '\n' not in said


@pytest.mark.parametrize(
  'change',
  [
    hostile_files.changed(SETTINGS, padding_side='left', model_max_length=9),
    hostile_files.changed(GENERATION, eos_token_id=[1, 1], top_p=0.5),
    hostile_files.changed('config.json', transformers_version='9'),
    lambda model: (model / 'model.safetensors').unlink(),
  ],
)
def test_files_that_change_no_rollout_may_change(spoiled, change):
  config, workdir, model = spoiled
  change(model)
  assert earlier(config, workdir)['data'].keys() >= {'tokenizer', 'decoder'}


def damaged(name, content):
  """A function that writes that into a file of the newest checkpoint."""

  def damage(workdir):
    path = workdir / 'checkpoints' / '1' / name
    if content is None:
      path.unlink()
    elif callable(content):
      content(path)
    elif isinstance(content, dict):
      path.write_text(json.dumps(json.loads(path.read_text()) | content))
    else:
      path.write_bytes(content)

  return damage


META, PROGRESS = 'meta/metadata', 'progress/metadata'
CONTENTS = (
  None,
  b'',
  b'[1]',
  b'5',
  b'{}',
  b'{"step": 1',
  b'\xff',
  b'[' * 100_000,
  hostile_files.pipe,
  hostile_files.sparse,
)


@pytest.mark.parametrize(
  'damage',
  [
    *(damaged(name, x) for name in (META, PROGRESS) for x in CONTENTS),
    *(damaged('state/_METADATA', x) for x in CONTENTS if x != b'5'),
    damaged('state/manifest.ocdbt', b'x'),
    damaged('ledger/_METADATA', b'{}'),
    damaged('ledger/manifest.ocdbt', None),
    *(
      damaged(META, {name: value})
      for name in ('config', 'data', 'dropped', 'seconds')
      for value in (None, 'x', [1])
    ),
    damaged(META, {'dropped': {'main': 5}}),
    damaged(META, {'dropped': {}}),
    damaged(META, {'config': {'stages': [5], 'lora': {}}}),
    *(
      damaged(PROGRESS, {name: value})
      for name, value in (
        ('stage', 'none'),
        ('stage', 5),
        ('step', '1'),
        ('step', None),
        ('history', 5),
        ('cursor', []),
        ('temperature', 'warm'),
        ('surprise', 1),
      )
    ),
  ],
)
def test_a_damaged_checkpoint_is_one_line(spoiled, damage):
  config, workdir, _ = spoiled
  run = train.build(config)
  damage(workdir)
  with pytest.raises(SystemExit) as error:
    train.train(run, workdir)
  said = error.value.code
  assert said.startswith('error: ') and '\n' not in said and len(said) < 900


def test_a_run_recorded_with_old_names_goes_on(spoiled):
  config, workdir, _ = spoiled

  def rename(path):
    whole = json.loads(path.read_text())
    c = whole['config']
    c['updates'], c['carry_optimizer'] = (
      c['optim'].pop(name) for name in ('updates', 'carry')
    )
    c['optim'] |= c['optim'].pop('transform')
    del c['optim']['groups'], c['optim']['decay_on']
    c['rollout']['groups'] = c['rollout'].pop('per_prompt')
    path.write_text(json.dumps(whole))

  damaged(META, rename)(workdir)
  assert earlier(config, workdir)['changes'] == []


def without(name, *keys):
  def change(path):
    whole = part = json.loads(path.read_text())
    for key in keys[:-1]:
      part = part[key]
    del part[keys[-1]]
    path.write_text(json.dumps(whole))

  return damaged(name, change)


@pytest.mark.parametrize(
  'damage, what',
  [
    (without(PROGRESS, 'over'), 'progress lacks over'),
    (damaged(PROGRESS, {'momentum': 1}), 'progress has momentum'),
    (without(META, 'data', 'tokenizer'), 'no digest of tokenizer'),
  ],
)
def test_a_checkpoint_of_another_version_is_not_called_damaged(
  spoiled, damage, what
):
  config, workdir, _ = spoiled
  run = train.build(config)
  damage(workdir)
  with pytest.raises(SystemExit, match=what) as error:
    train.train(run, workdir)
  assert 'made by another version' in error.value.code


@pytest.mark.parametrize('content', ['[1]', '{}', 'x', '{"steps": "4"}', '['])
def test_a_damaged_summary_is_written_again(content, tmp_path):
  (tmp_path / 'summary.json').write_text(content)
  assert start.final_summary(tmp_path, 4) is None
  (tmp_path / 'summary.json').write_text('{"steps": 4}')
  assert start.final_summary(tmp_path, 4) == '{"steps": 4}'


@pytest.mark.parametrize(
  'content', [None, b'[1]', b'{}', {'config': {}}, {'config': {'model': 5}}]
)
def test_no_export_of_a_damaged_checkpoint(spoiled, content, tmp_path):
  _, workdir, _ = spoiled
  damaged(META, content)(workdir)
  with pytest.raises((ValueError, OSError)) as error:
    export.export(workdir, str(tmp_path / 'out'))
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'out').exists()


def test_a_checkpoint_of_another_model_shape(config, tmp_path):
  """The same path, but the model there was exchanged."""
  run = saved_run(config, tmp_path / 'run')
  tiny.write_model(tmp_path / 'wide', hidden_size=48)
  config.model = str(tmp_path / 'wide')
  other = train.build(config)
  one_line_exit(other, tmp_path / 'run', r'model: ".*model" -> ".*wide"; use')
  one_line_exit(
    other._replace(config=run.config, digests=run.digests),
    tmp_path / 'run',
    r'opt_state.* is float32\(.*, expected float32\(.*another --workdir',
  )


@pytest.mark.parametrize(
  'fn, match',
  [
    ('none_such:verify', r"config\.judge: .*cannot import 'none_such'"),
    ('tiny_judge:none', r"config\.judge: .*tiny_judge has no 'none'"),
    ('json:dumps', r'config\.judge: .*json:dumps.*reasons'),
  ],
)
def test_a_judge_that_cannot_be_had(config, tmp_path, fn, match):
  config.judge.verify.fn = fn
  one_line_exit(train.build(config), tmp_path, match)


def test_a_judge_of_references_that_cannot_be_had(config, tmp_path):
  config.judge.reference = 'tiny_judge:none'
  match = r"config\.judge\.reference: .*tiny_judge has no 'none'"
  one_line_exit(train.build(config), tmp_path, match)


def test_no_reference_that_can_be_read(config, tmp_path):
  path = tmp_path / 'bad.jsonl'
  rows = [dict(id=f'r{i}', prompt=f'{i}?', answer='\\frac{') for i in range(3)]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  config.train_data.path = str(path)
  match = r'config\.train_data: all 3 rows would be dropped, .*\(r0, .*frac'
  one_line_exit(train.build(config), tmp_path / 'run', match)


def test_an_error_that_nobody_expects_keeps_its_traceback(
  config, tmp_path, monkeypatch
):
  """A ValueError in a step is a bug of ours: one line would hide where."""

  def broken(*args, **kwargs):
    raise ValueError('operands could not be broadcast together')

  monkeypatch.setattr(start, 'first_look', broken)
  with pytest.raises(ValueError, match='broadcast'):
    train.train(train.build(config), tmp_path)
