"""Probes before a stage: asks prompts for the counts of its filter."""

from collections.abc import Collection, Sequence

from acereason_jax import types
from acereason_jax.curriculum import filtering, ledger, outcomes
from acereason_jax.data import references
from acereason_jax.run import answers, collect, deciding, metrics, stored
from acereason_jax.run.values import Run, Stage, Standing, Tools

# First step number in keys of probes; a run never takes so many steps.
_PROBES = 1 << 30


def probe(
  run: Run,
  stage: Stage,
  domain: str,
  at: Standing,
  tools: Tools,
) -> tuple[Standing, answers.Probe]:
  """Asks the prompts of a domain that its filter in the stage cannot judge yet.

  The standing has the results in its ledger. Prompts whose data have them for
  this model are not asked, nor are those that the ledger knows if it is the
  filter's source. See `deciding.decide`.

  Raises: see `deciding.decide`.
  """
  step, filter = at.progress.step, stage.filters[domain]
  easy = easy_prompts(stage, domain, tools.prompts[domain][references.TRAIN])
  counted = stored.probes(run, stage, domain, step, easy)
  asked = to_ask(stage, domain, at, easy, counted)
  known = len(easy) - len(counted) - len(asked)
  for count, what in (
    (len(counted), 'have pass counts of this model in their data'),
    (known, f'have {filter.tries} verdicts or more in the ledger'),
  ):
    if count:
      metrics.say(
        f'stage {stage.name}: {count:,} of {len(easy):,} prompts {what}'
      )
  made = answers.Probe(stage.name, ())
  if asked:
    made = ask(run, stage, asked, at, tools)
  for prompt, found in made.answers:
    results = [answer.result for answer in found]
    counted[prompt.id] = ledger.record(
      prompt, results, ledger.PROBE, stage.name, 0, step
    )
  records = [counted[p.id] for p in easy if p.id in counted]
  return at._replace(ledger=at.ledger.extended(records)), made


def to_ask(
  stage: Stage,
  domain: str,
  at: Standing,
  prompts: Sequence[types.Prompt],
  counted: Collection[str] = (),
) -> list[types.Prompt]:
  """The prompts that must be asked, in the order of asking.

  Those of `counted`, ids, are known. Prompts of the domain's last stage come
  first: its filter kept them, so this stage will likely keep them too. Then
  prompts with long responses come first, see `requests.longest_first`.
  """
  filter, step = stage.filters[domain], at.progress.step
  known = filtering.known(at.ledger, filter, stage=stage.name, since=step)
  last = outcomes.newest_stage(at.ledger, domain)
  expected = outcomes.mean_lengths(at.ledger)
  place = lambda p: (p.id not in last, -expected.get(p.id, float('inf')))
  asked = (p for p in prompts if p.id not in counted and p.id not in known)
  return sorted(asked, key=place)


def ask(
  run: Run,
  stage: Stage,
  prompts: Sequence[types.Prompt],
  at: Standing,
  tools: Tools,
) -> answers.Probe:
  """The answers to prompts of one domain. Raises: see `probe`."""
  step, filter = at.progress.step, stage.filters[prompts[0].domain]
  metrics.say(
    f'stage {stage.name}: asking {len(prompts):,} prompts up to {filter.of} '
    'times'
  )
  found = deciding.decide(
    stage.engine,
    lambda: run.rollout_params(at.state.weights),
    prompts,
    tools,
    collect.Asking(
      (run.seed, _PROBES + stage.index), 'probe', step, at.progress.temperature
    ),
    deciding.Question(
      stage.name,
      filter,
      stage.objective.rules,
      batch=stage.prompts * filter.of,
      every=stage.prompts,
    ),
    outcomes.mean_lengths(at.ledger),
  )
  return answers.Probe(stage.name, [(p, found[p.id]) for p in prompts])


def easy_prompts(
  stage: Stage, domain: str, prompts: Sequence[types.Prompt]
) -> list[types.Prompt]:
  """The prompts that a domain's filter leaves before the model is asked.

  Raises:
    ValueError: one line that begins with the name of a field of the filter.
  """
  return filtering.survivors(
    prompts,
    ledger.Ledger(),
    filtering.Filter(max_difficulty=stage.filters[domain].max_difficulty),
    stage=stage.name,
    epoch=0,
    before_step=0,
    seed=0,
  )
