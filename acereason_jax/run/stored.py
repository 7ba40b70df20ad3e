"""Pass counts that curation stored with prompts, in place of a probe.

A probe asks the model at the start of a stage. Where the data tell how often
that very model solved a prompt, nothing needs to be asked.
"""

from collections.abc import Sequence

from acereason_jax import types
from acereason_jax.curriculum import filtering, ledger
from acereason_jax.data import rollouts
from acereason_jax.models import embedded
from acereason_jax.run import checkpoint, network
from acereason_jax.run.values import Run, Stage


def probes(
  run: Run,
  stage: Stage,
  domain: str,
  step: int,
  prompts: Sequence[types.Prompt],
) -> dict[str, ledger.Record]:
  """The results of a domain's probe at `step` that are stored, by prompt.

  They must be of the weights that the run began with, and no step may have
  changed those. A prompt needs as many attempts as the stage would make, or so
  many right or wrong ones that more attempts would change nothing.
  """
  filter = stage.filters[domain]
  counted = [p for p in prompts if p.passes and _decides(filter, p.passes)]
  # All weights are read for the hash, so only if it is needed.
  if not counted or step != first_step(run):
    return {}
  model = model_key(run)
  return {
    p.id: ledger.stored(p, stage.name, step)
    for p in counted
    if p.passes.model == model
  }


def _decides(filter: filtering.Filter, passes: types.Passes) -> bool:
  """Whether attempts beyond these could not change what the filter says."""
  right, judged, _ = passes
  stays = judged - right >= filter.of - filter.max_solved
  return (
    judged >= filter.of
    or right > filter.max_solved
    or (stays and (filter.keep_unsolved or right > 0))
  )


def first_step(run: Run) -> int | None:
  """The step of the weights that a run begins with."""
  if not run.start_run:
    return 0
  return (checkpoint.load_progress(run.start_run) or {}).get('step')


def model_key(run: Run) -> str:
  """The hash of the weights that a run begins with, as in stored pass counts.

  All processes call it together.
  """
  directory = embedded.resolve_model(run.config['model'])
  digests = dict(model=network.model_digest(directory))
  if run.start_run:
    digests['checkpoint'] = checkpoint.stamp(run.start_run)
  return rollouts.model_key(digests)
