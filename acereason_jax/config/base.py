"""Every field of a config once: its meaning, unit, default and source.

Tags name the source: [P] arXiv 2505.16400, [1.1] arXiv 2506.13284, [open] not
reported, our choice. An experiment is a file of configs/ that changes fields;
`--config.field=value` changes one more. A component is
dict(fn='package.module:function', **its arguments). A stage is a dict of
overrides, and so is a domain; fields.py lists the fields that each may change.
"""

import importlib.util
import pathlib
import types

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  # fields.py has the types; a number may also be a component.
  c = ml_collections.ConfigDict(type_safe=False)
  _run(c)
  _model(c)
  _questions(c)
  _rollouts(c)
  _judge(c)
  _objective(c)
  _optim(c)
  _records(c)
  return c.lock()


def beside(file: str, name: str) -> types.ModuleType:
  """The config `name`.py in the folder of `file`, for configs that change it.

  An import would need that folder on Python's path.
  """
  path = pathlib.Path(file).with_name(f'{name}.py')
  spec = importlib.util.spec_from_file_location(f'_config_{name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _run(c: ml_collections.ConfigDict) -> None:
  # Seeds sampling keys, the order of data and where adapters start.
  c.seed = 0
  # Most steps of a stage: a step is one batch of rollouts and its updates.
  c.steps = 1000
  # A stage also ends after this many epochs of each of its domains (0: no
  # limit), or when the rise of a metric ('': none) plus two standard errors is
  # below `gain` [open]: 'same_prompts' (the pass rate of prompts asked again,
  # over `window` steps), heldout/main or another domain's, reward, pass_rate or
  # solved_share (means of `window` values; the last three are of batches, and
  # cannot end a stage whose filter drops prompts by their answers).
  c.stop = dict(epochs=0, metric='', window=0, gain=0.0)
  # The stages of a run, in order: dicts of a name and of overrides. () is one
  # stage.
  c.stages = ()
  # `run`: begin with the newest weights and the ledger of that run's folder.
  # `stages`: run only these; (): all.
  c.start = dict(run='', stages=())


def _model(c: ml_collections.ConfigDict) -> None:
  # A Hugging Face directory (config.json, *.safetensors, tokenizer.json), a
  # model of the hub ('owner/name', 'owner/name@revision'), or an embedded one
  # ('smollm2-135m').
  c.model = ''
  # 'bfloat16' or 'float32': compute and rollout weights. Trained weights are
  # float32, and so is the optimizer's state unless `optim` sets another type.
  c.dtype = 'bfloat16'
  c.lora = dict(
    # Rank of the adapters (arXiv 2106.09685). Only they are trained and saved,
    # next to weights frozen in config.dtype; 0 trains all weights.
    rank=0,
    # Their product is scaled by alpha / rank [open].
    alpha=32.0,
    # Regex of the matrices of layers that have them, 'layers.q' to
    # 'layers.down' (q, k, v, o, gate, up, down); the embedding and the head
    # have none.
    on=r'layers\..*',
  )
  # Activations of a block that the backward pass keeps: 'dots' (all products),
  # 'attention' (only its output) or 'block' (nothing); less memory, more time.
  c.remat = 'attention'
  # Training's attention: 'auto' is fused_splash on TPU and mosaic_gpu on GPU,
  # without tokamax splash and triton, else xla; see kernels/attention.py.
  c.attention = 'auto'
  # Devices: data x fsdp x tensor x sequence = all of them; -1 takes the devices
  # that are left. `sequence` spreads the tokens of a row, for rows too long for
  # one device.
  c.mesh = dict(data=1, fsdp=-1, tensor=1, sequence=1)
  # The same devices for rollouts: `tensor` neighbours share the weights, which
  # each decode step reads, and every such group has rollouts of its own. 0: the
  # fastest size that fits (rollout/tensor.py); mesh.tensor on CPUs.
  c.rollout_mesh = dict(tensor=0)


def _questions(c: ml_collections.ConfigDict) -> None:
  # Sources return rows (id, question, answer); see data/sources.py.
  c.train_data = dict(fn='acereason_jax.data.sources:jsonl', path='train.jsonl')
  c.heldout_data = dict(
    fn='acereason_jax.data.sources:jsonl', path='heldout.jsonl'
  )
  c.prompt = dict(
    # No system turn and this suffix: the released 1.0 prompts.
    system='',
    suffix='\nPlease reason step by step, and put your final answer within '
    '\\boxed{}.',
    # Replaces the suffix for rows with a `starter`, the code that a program
    # must begin with; {starter} stands for it. '': such rows are refused.
    starter='',
    # Text that the reply follows, such as '<think>\n'. It is added where the
    # chat template does not end with it.
    opens='',
    # Example (user, assistant) turns before the question.
    examples=(),
    # Longest prompt, tokens; a longer one is dropped, counted and named.
    window=1024,
    # The answer counts only after '</think>' [P 3.1]; a tokenizer that loses
    # it is refused.
    reasons=True,
  )
  # Kinds of prompts by name, each a dict of overrides of train_data,
  # heldout_data, heldout.before, heldout.every, heldout.per_prompt, prompt and
  # judge; {} is one domain.
  c.domains = ml_collections.ConfigDict()
  # Each domain's share of a stage's prompts.
  c.mix = ml_collections.ConfigDict()
  # Selects the prompts that a stage asks; see curriculum/selection.py.
  c.filter = dict(
    # The data set's difficulty (0 to 8 [P 3.3.1]); -1: all.
    max_difficulty=-1.0,
    # Drops prompts that the model solves more than `max_solved` times in the
    # `of` rollouts asked when the stage begins: 14, 10 or 6 of 16 [P]. of=0
    # asks nothing. A prompt is asked no more once its rollouts decide.
    max_solved=0,
    of=0,
    # 'probe': all prompts are asked, so the current model decides [P].
    # 'ledger': a prompt with `tries` verdicts of earlier stages is not asked.
    # The model was older and its responses shorter then, so more prompts stay.
    # 8 verdicts judge 16% of prompts with evenly spread pass rates other than
    # 16 do, at 6 of 16; two draws of 16 differ on 13% [open].
    source='probe',
    tries=8,
    # Whether prompts that were never solved stay [open].
    keep_unsolved=True,
    # Drops prompts that all rollouts solved in the previous epoch [1.1], except
    # the share `readmit`: 0.01 to 0.1 (Nemotron-Cascade, MiMo).
    drop_solved=False,
    readmit=0.0,
    # Share of a prompt's verdicts that must not have failed; a prompt with
    # fewer is unknown, so it stays [open].
    min_judged=0.5,
    # Overrides of the filter by domain: dict(code=dict(drop_solved=True)).
    domains=ml_collections.ConfigDict(),
  )


def _rollouts(c: ml_collections.ConfigDict) -> None:
  c.rollout = dict(
    # Prompts per batch and rollouts per prompt [P]; 16 per prompt from 16K on.
    # The second is a number or a control of rl/control.py: by_epoch, 8 to 16.
    prompts=128,
    per_prompt=8,
    # Longest response, tokens: 8K, 16K, 24K, 32K by stage [P 3.4].
    max_tokens=8192,
    # Training temperature [open in P], or a control of rl/control.py: by epoch,
    # or near_entropy, as [1.1] sets it for an entropy near 0.3.
    temperature=0.85,
    # Rounds of new prompts that replace groups which are all right or all wrong
    # and so have no gradient (DAPO's dynamic sampling); [P] has none.
    refill=0,
  )
  # Held-out pass rate; [P 4.1] samples at 0.6 and 0.95.
  c.heldout = dict(
    # Whether questions are also asked before the run's first step [open]. A
    # domain can have its own.
    before=True,
    # Steps between evaluations; 0: none. At the end of a stage all domains are
    # evaluated; before it, those of its mix and those that are in no mix. A
    # stage can have its own number; a domain's own counts.
    every=0,
    # Rollouts per question; a domain can have its own. With 2 or more the rate
    # has the error of other draws on the same questions.
    per_prompt=1,
    # How they are sampled.
    temperature=0.6,
    top_p=0.95,
    top_k=0,
    # Longest response, tokens; 0: as long as in the longest stage.
    max_tokens=0,
  )
  c.engine = dict(
    # Rollouts decoded at once, on all devices together; 0: all of a stage's
    # batch, or as many as memory holds at half of their longest, at most 256 on
    # each data x fsdp x sequence shard (64 on CPUs); see rollout/cache.py.
    slots=0,
    # Tokens of a cache page; the kernels want a multiple of 128 on a TPU and of
    # 64 on a GPU. Decode steps between two looks of the host divide it.
    page=128,
    chunk=128,
    # Cache pages on all devices; 0: all that the slots can use, or that fit.
    pages=0,
    # A prefill call: prompts on each data x fsdp x sequence shard, and tokens
    # of each, a multiple of page.
    prefill_prompts=4,
    prefill_tokens=256,
    # '' is config.dtype. 'float8_e4m3fn' holds twice the tokens of bfloat16,
    # but sampler and trainer then differ more (docs/measured.md).
    kv_dtype='',
    # '' is config.dtype. 'int8' and 'float8_e4m3fn' store the matrices of
    # layers in 8 bits for rollouts, so a decode step reads half as much of
    # them. The sampler is then another policy: wrap the loss in
    # losses:truncated_importance.
    weights='',
    # Tokens drafted for each rollout in a step once few are left: one for
    # speculate + 1 slots of each shard. Drafts change no token, up to rounding
    # (rollout/verify.py). 3 suits text that repeats itself; 0 is off [open].
    speculate=0,
  )


def _judge(c: ml_collections.ConfigDict) -> None:
  c.judge = dict(
    # verify(response, answer, reasons=..., **arguments) -> Verdict; see
    # verifiers/math.py, and verifiers/code.py, which takes the sandbox's
    # tier and the CPU time for all tests of a submission as arguments.
    verify=dict(fn='acereason_jax.verifiers.math:verify'),
    # reference(response, answer) -> Verdict. A new run drops, counts and lists
    # rows whose answer is not 'right' by it. '': answers are not checked, which
    # a judge of your own may need.
    reference='acereason_jax.verifiers.math:reference',
    # Worker processes on each host; the paper used 64 [P].
    workers=16,
    # Hard limit of one verdict. A response that exceeds it is not judged, so
    # the code judge needs 300: it stops submissions itself and calls them
    # wrong.
    timeout_seconds=8.0,
    # Workers cannot use the network, write files or start programs. The code
    # judge needs False because it confines the programs that it runs. A judge
    # that asks a server needs False too.
    confine=True,
    # After a batch's last token, responses not judged are 'timeout' once the
    # domain's judges have given no verdict for this long [open]. It must be
    # more than timeout_seconds, the time that one verdict may take. As long as
    # verdicts arrive, the run waits. The paper's code batches took 552 s on 64
    # workers, its math batches 4 s [P].
    batch_seconds=900.0,
    # Share of a batch's verdicts that may fail before the run stops.
    max_failed_share=0.05,
  )


def _objective(c: ml_collections.ConfigDict) -> None:
  c.objective = dict(
    # Strictly on-policy, no KL, no entropy bonus [P 3.1]; 'losses:clipped' is
    # the clipped ratio against the sampler's logp.
    loss=dict(fn='acereason_jax.rl.losses:on_policy'),
    # (S - mean) / (std + epsilon) over a group [P eq. 2]; epsilon is [open].
    # scale: the std is that of the 'group' or of the 'batch', or 'none' divides
    # (Dr. GRPO); see rl/advantages.py.
    advantage=dict(epsilon=1e-6, scale='group'),
    # token: 1 / all tokens of the batch (what veRL's token-mean does; whether
    # the paper's normaliser is the batch or the group is [open]); group,
    # sequence, constant: see rl/packing.py.
    average='token',
    # The policy whose logp is trained: 'tempered' (softmax(logits /
    # temperature), which the rollouts are drawn from) or 'full'
    # (softmax(logits)) [open].
    policy='tempered',
    # Responses cut off at max_tokens: 'mask' takes them out of the loss (at 8K
    # and 16K [1.1]) but not out of their group's mean; 'zero' is reward 0 (at
    # 32K [1.1]); 'score' is the judge's reward. Filters, refills and the metric
    # `reward` use the reward that trains; `pass_rate` uses the judge's.
    truncated='mask',
    # Subtracts up to 1, in proportion, from the reward of responses that end in
    # the last so many tokens before max_tokens (DAPO); 0: nothing.
    overlong_tokens=0,
    # Weight of the entropy in the loss, or a control (adaptive_entropy); 0 [P].
    entropy_bonus=0.0,
    # For a loss with a reference policy (losses:with_kl). The reference is the
    # stage's first policy; every so many steps the newest policy replaces it
    # (ProRL); 0: never.
    reset_reference_every=0,
  )


def _optim(c: ml_collections.ConfigDict) -> None:
  c.optim = dict(
    # AdamW at 1e-6 [P]; betas and weight decay are [open]: optax's betas, none.
    transform=dict(fn='optax:adamw', weight_decay=0.0),
    # A number, or a schedule that is a component: optax:cosine_decay_schedule.
    learning_rate=1e-6,
    # Steps of a linear rise to that rate; [open].
    warmup_steps=0,
    # Global gradient norm; [open].
    clip_norm=1.0,
    # Updates per batch, each on an equal share of the prompts. 1 is on-policy
    # [P]; 2 and 4 are the ablation of [P Fig. 3c], which needs a loss with a
    # ratio, such as losses:clipped (configs/updates_cpu.py).
    updates=1,
    # (regex, other) pairs: parameters whose names match ('layers.q', 'embed')
    # follow `other`, a factor of the learning rate or a transform of their own.
    groups=(),
    # Regex of the names that weight decay acts on; '': all matrices.
    decay_on='',
    # Whether a stage keeps the moments of the previous stage [open]. Schedules
    # and warm-ups of the learning rate start anew with every stage.
    carry=True,
    # Whether the moments are in the hosts' memory between updates: AdamW's are
    # 8 bytes a trained parameter. Devices keep that room for rollouts and
    # gradients; each update copies the moments there and back.
    offload=False,
  )
  # A microbatch is rows x columns tokens on each of the data x fsdp shards, of
  # which `sequence` devices share a row's; columns >= prompt + response. Where
  # that saves 1 in 32, some microbatches have fewer columns, a multiple of 512
  # (rl/rows.py); each width compiles once.
  # vocab_chunk: rows of the head, so many logits of each token are in memory at
  # once.
  c.microbatch = dict(rows=1, columns=9216, vocab_chunk=2048)


def _records(c: ml_collections.ConfigDict) -> None:
  # The run stops, with one line, if sampler and trainer differ by more (0: only
  # warns), if a larger share of groups has no gradient (1: never), or after so
  # many steps in a row whose gradient is not finite.
  c.limits = dict(mismatch=0.0, zero_signal=1.0, nonfinite=3)
  c.checkpoint = dict(
    # Steps between saves, and how many are kept.
    every=10,
    keep=2,
    # Also keeps the checkpoint at which heldout/<domain> is highest; '': none.
    best='',
  )
  # Steps between printed sample rollouts, how many, and characters of each.
  c.samples = dict(every=10, count=3, characters=600)
  c.keep = dict(
    # Each rollout leaves a row in RUN/rollouts. So many groups of a step, drawn
    # at random, also leave texts, tokens and numbers of each token, and so does
    # at most one group of each kind: solved for the first time, with a failed
    # verdict, truncated, all wrong, mixed. 0: no texts of training; held-out
    # answers leave theirs.
    groups=2,
    # GB (1e9 bytes) of texts. Beyond it the texts of older steps are thinned to
    # every 2nd step, every 4th, ...; rows are never removed.
    budget_gb=10.0,
  )
