"""Starts a run, or a sweep of runs, on this machine, a pod or a cluster.

    python launch/xm_launch.py --config=configs/quickstart.py \\
      --hardware=cpu:2 -- --config.steps=20

Flags after -- go to the trainer. --hardware is cpu:N (processes), v5e:16x16,
v5p:4x4x8*2 (two slices), h100:8*4 (four nodes) and the like; machines.py has
them all. --dry_run shows what would be started and writes the files; it needs
no cluster. `xmanager launch launch/xm_launch.py -- ...` takes the same flags
and has XManager start the runs of --backend=local.

    --sweep=optim.learning_rate=1e-6,2e-6 --sweep=seed=0,1

makes four runs, each with a folder of its own in --workdir: one after the other
on this machine, all at once on clusters. --status=FOLDER tells how they do.
"""

import itertools
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping, Sequence

from absl import flags

# `python launch/xm_launch.py` puts only launch/ there. Not the first place:
# xmanager removes that once it has read this file.
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(1, str(ROOT))

from acereason_jax import files, machines  # noqa: E402
from acereason_jax.config import checks, from_flags  # noqa: E402
from acereason_jax.console import command_line, exits, terminal  # noqa: E402
from launch import local, planned, render, status, sweeps  # noqa: E402
from launch.job import Job  # noqa: E402

# Whether `xmanager launch` reads this file; XManager takes seconds to load, and
# few have it.
BY_XM = 'xmanager' in sys.modules
if BY_XM:
  from launch import xm_local

FLAGS = command_line.Flags()
FLAGS.string('config', None, 'A file of configs/.')
FLAGS.string('hardware', None, 'The machines of each run; local: cpu:1.')
FLAGS.choice('backend', 'local', sorted(render.TEXTS), 'What starts the runs.')
FLAGS.strings('sweep', [], 'FIELD=VALUE,VALUE: a run for each; repeat it.')
FLAGS.boolean('zip', False, 'Takes the values of sweeps together.')
FLAGS.string('name', None, 'Name of the runs; default that of the config.')
FLAGS.string('workdir', None, "The runs' folder; default runs/NAME.")
FLAGS.string('image', None, 'Container image, for gke and sky.')
FLAGS.string('queue', '', "Kueue's local queue, or Slurm's partition.")
FLAGS.strings('secret', [], 'Name of an environment variable; repeat it.')
FLAGS.boolean('dry_run', False, 'Starts nothing.')
FLAGS.boolean(
  'plan', True, 'Plans the first run before: whether it fits, and hours.'
)
FLAGS.string('manifest_dir', 'runs/manifests', 'Where the files are written.')
FLAGS.string('status', None, 'Only shows how the runs in a folder do.')
# `xmanager launch` reads the flags of the whole program, which has its own
# --help and --verbosity.
for _name in {*FLAGS.values} - {'help', 'h', *flags.FLAGS}:
  flags.FLAGS[_name] = FLAGS.values[_name]

# Flags of the trainer that are no fields of the config.
TRAINERS = ('verbosity', 'join_seconds', 'peer_seconds', 'hang_seconds')
TOOLS = {
  'gke': ('kubectl', 'apply', '-f'),
  'slurm': ('sbatch',),
  'sky': ('sky', 'jobs', 'launch', '--yes', '--detach-run'),
}


def jobs(
  args: types.SimpleNamespace, extra: Sequence[str]
) -> tuple[list[Job], planned.About]:
  """The runs, and what is known of the first one.

  Raises:
    ValueError: something that the user gave cannot be.
    SystemExit: a config that cannot be read.
  """
  if args.config is None:
    raise ValueError('--config: missing; give a file of configs/')
  if args.hardware is None and args.backend != 'local':
    raise ValueError(
      f'--hardware: missing; --backend={args.backend} expects KIND:SIZE, such '
      'as v5e:4x4 or h100:8'
    )
  hardware = machines.hardware(args.hardware or 'cpu:1')
  check_names(args)
  check_extra(extra)
  points = sweeps.points(args.sweep, args.zip)
  overrides = [(*extra, *point.overrides) for point in points]
  about = [check(args.config, given, hardware) for given in overrides]
  own = from_flags.name(args.config)
  # As Kubernetes takes it.
  name = args.name or re.sub('[^a-z0-9]+', '-', own.lower())
  # A slash at the end would be one more level in a bucket. / stays.
  folder = re.sub('(?<=[^/:])/+$', '', args.workdir or '')
  workdir = folder or f'runs/{args.name or own}'
  made = [
    Job(
      name=f'{name}-{i}' if len(points) > 1 else name,
      hardware=hardware,
      flags=(
        f'--config={config_there(args)}',
        *given,
        '--workdir=' + '/'.join(filter(None, [workdir, point.label])),
      ),
      image=args.image or ('IMAGE' if args.backend == 'gke' else ''),
      queue=args.queue,
      secrets=tuple(args.secret),
    )
    for i, (point, given) in enumerate(zip(points, overrides))
  ]
  return made, about[0]


def config_there(args: types.SimpleNamespace) -> str:
  """The config's path on the hosts.

  Raises:
    ValueError: they do not have it.
  """
  if args.backend not in ('gke', 'sky'):
    return args.config
  file, colon, order = args.config.partition(':')
  path = pathlib.Path(file).resolve()
  if not path.is_relative_to(ROOT):
    raise ValueError(
      f'--config={args.config}: is not in {ROOT}, so the hosts of '
      f'--backend={args.backend} do not have it; put it into configs/'
    )
  return f'{path.relative_to(ROOT)}{colon}{order}'


def check_names(args: types.SimpleNamespace) -> None:
  """Raises ValueError for words that files and schedulers cannot hold."""
  for flag in ('name', 'queue', 'image'):
    word = getattr(args, flag)
    if word and not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9._/:@-]*', word):
      raise ValueError(
        f'--{flag}={word}: expected letters, digits and . _ / : @ -, of which '
        'the first is a letter or a digit'
      )
  if '/' in (args.name or ''):
    raise ValueError(f'--name={args.name}: expected no /; give --workdir too')
  for secret in args.secret:
    # A token that is pasted here must not be shown, nor written to a file.
    if not re.fullmatch('[A-Z][A-Z0-9_]*', secret):
      raise ValueError(
        '--secret: expected the name of an environment variable, not a value; '
        'give capitals, digits and _ only, such as HF_TOKEN'
      )


def check_before(given: Sequence[str]) -> None:
  """Ends with one line for a field of the config that stands before --."""
  for before, text in itertools.pairwise(given):
    # --sweep takes a field with and without dashes.
    if text.startswith('--config.') and before.lstrip('-') != 'sweep':
      raise command_line.refused(
        f"{text}: is a flag of the trainer's", f'put it after --: -- {text}'
      )


def check_extra(extra: Sequence[str]) -> None:
  """Raises ValueError for an argument after -- that the trainer lacks."""
  for text in extra:
    flag, given, _ = text.partition('=')
    known = flag.startswith('--config.') or flag[2:] in TRAINERS
    if not given or not text.startswith('--') or not known:
      raise ValueError(
        f'{text}: after -- expected --config.FIELD=VALUE or, as --FLAG=VALUE, '
        f'{", ".join(TRAINERS)}'
      )


def check(
  path: str, overrides: Sequence[str], hardware: machines.Hardware
) -> planned.About:
  """Checks the config of a run. Raises: see `jobs`."""
  fields = [o for o in overrides if o.startswith('--config.')]
  config = from_flags.read([f'--config={path}', *fields])
  checks.validate(config)
  mesh = machines.mesh_sizes(
    config.mesh.to_dict(), hardware.devices, hardware.slices
  )
  told = ' '.join(f'{axis}={size}' for axis, size in mesh.items())
  return planned.About(
    f'mesh      {told}', *planned.crossing(config, hardware, mesh)
  )


def plan(
  args: types.SimpleNamespace, job: Job, about: planned.About
) -> list[str]:
  """Lines about memory and hours of a run, simulated.

  Raises:
    ValueError: the plan says that it does not fit.
  """
  hardware = job.hardware
  if hardware.kind.platform == 'cpu':
    return [
      'plan      none for cpu: processes share the memory of this machine'
    ]
  if not args.plan:
    return [*filter(None, [about.crossing]), 'plan      none: --noplan']
  own = [flag for flag in job.flags[1:] if flag.startswith('--config.')]
  found, lines = planned.told(args.config, own, hardware.text, about)
  if found.fits is False:
    for line in lines if args.dry_run else ():
      terminal.say(line)
    raise ValueError(
      f'--hardware={hardware.text}: {", ".join(found.bad)}: does not fit, by '
      'the plan; python -m acereason_jax.plan says what would; --noplan starts '
      'it all the same'
    )
  return lines


def check_place(args: types.SimpleNamespace) -> None:
  """Raises ValueError if the runs could be rendered, but not started."""
  if args.image and args.backend in ('local', 'slurm'):
    raise ValueError(
      f'--image={args.image}: --backend={args.backend} runs in the environment '
      'that starts it; leave --image out'
    )
  if args.secret and args.backend in ('local', 'slurm'):
    raise ValueError(
      f'--secret: is for gke and sky; --backend={args.backend} runs in the '
      'environment that starts it, secrets included; leave --secret out'
    )
  if args.dry_run or args.backend == 'local':
    return
  tool = TOOLS[args.backend][0]
  if shutil.which(tool) is None:
    raise ValueError(
      f'--backend={args.backend}: no {tool} on PATH; install it, or give '
      '--dry_run and take the files of --manifest_dir elsewhere'
    )
  for words in not_ready(args):
    raise ValueError(words)


def not_ready(args: types.SimpleNamespace) -> Iterator[str]:
  """Why the files of a dry run would not be started as they are."""
  if args.backend == 'gke' and not args.image:
    yield '--image: missing; build launch/Dockerfile and push it'
  if args.backend == 'sky' and not args.image and pathlib.Path.cwd() != ROOT:
    yield f'--backend=sky: copies the checkout: start it in {ROOT}'
  remote = (args.workdir or '').startswith('gs://')
  if args.backend in ('gke', 'sky') and not remote:
    yield (
      f'--workdir={args.workdir or ""}: the disks of --backend={args.backend} '
      'are not shared, and lost with their hosts; give gs://BUCKET/FOLDER'
    )


def rendered(
  args: types.SimpleNamespace, made: Sequence[Job]
) -> dict[str, str]:
  """The file of each run, by its name. Raises: see `jobs`."""
  text, ending = render.TEXTS[args.backend]
  return {f'{job.name}.{ending}': text(job) for job in made}


def written(folder: str, texts: Mapping[str, str]) -> list[pathlib.Path]:
  """Writes files into a folder; returns their paths."""
  place = pathlib.Path(folder)
  place.mkdir(parents=True, exist_ok=True)
  for name, content in texts.items():
    files.write_atomically(place / name, content)
  return [place / name for name in texts]


def show(
  made: Sequence[Job],
  about: Sequence[str],
  paths: Sequence[pathlib.Path],
) -> None:
  hardware = made[0].hardware
  counts = [
    f'{hardware.slices} slices' if hardware.slices > 1 else '',
    f'{hardware.processes} host{"s" * (hardware.processes > 1)}',
    f'{hardware.devices} device{"s" * (hardware.devices > 1)}',
  ]
  terminal.say(f'runs      {len(made)}')
  terminal.say(f'hardware  {hardware.text}: {", ".join(filter(None, counts))}')
  for line in about:
    terminal.say(line)
  for job, path in zip(made, paths):
    terminal.say(f'file      {path}')
    terminal.say(f'          {shlex.join(job.flags)}')


def submit(backend: str, paths: Sequence[pathlib.Path]) -> int:
  """Hands the files to the cluster's own command."""
  for path in paths:
    done = subprocess.run([*TOOLS[backend], str(path)], check=False)
    if done.returncode:
      raise SystemExit(
        f'error: {" ".join(TOOLS[backend])} {path}: ended with status '
        f'{done.returncode}; the lines above say why'
      )
  return 0


def start(args: types.SimpleNamespace, extra: Sequence[str]) -> int:
  made, about = jobs(args, extra)
  check_place(args)
  here = args.backend == 'local' and not args.dry_run
  if here:
    render.supervised(made[0])
  texts = {} if here else rendered(args, made)
  lines = [about.mesh, *plan(args, made[0], about)]
  if here:
    return xm_local.run(made) if BY_XM else local.run(made)
  paths = written(args.manifest_dir, texts)
  show(made, lines, paths)
  for words in not_ready(args):
    terminal.say(f'not ready {words}')
  return 0 if args.dry_run else submit(args.backend, paths)


def main(argv: Sequence[str]) -> int:
  """argv is a command line or, under xmanager, what its parser left of it."""
  terminal.use_stdout()
  if BY_XM:
    args = types.SimpleNamespace(**FLAGS.values.flag_values_dict())
    extra = argv[1:]
  else:
    cut = argv.index('--') if '--' in argv else len(argv)
    check_before(argv[:cut])
    args = command_line.parse(FLAGS, argv[:cut], __doc__)
    extra = argv[cut + 1 :]
  with exits.one_line_for(ValueError, OSError):
    if args.status is not None:
      terminal.say(status.table(args.status))
      return 0
    return start(args, extra)


if __name__ == '__main__':
  command_line.run(main)
