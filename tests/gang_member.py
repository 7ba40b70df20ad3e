"""A process of a gang that trains nothing, told by lines what to do.

    python gang_member.py '{"process": 1, ...}'

It says 'joined' and 'agreed', and then obeys its input: `phase X`, `until X`
(another process is in phase X), `leave`, `end X`, `fail X`. Without
`join_seconds` its time to join is over when the first line comes.
"""

import json
import select
import socket
import sys
import time

from acereason_jax.console import exits
from acereason_jax.hosts import gang as gang_lib
from acereason_jax.hosts import ids as ids_lib
from acereason_jax.hosts import rollcall


def difference(every):
  found = {told.facts['color'] for told in every}
  hosts = ', '.join(f'{t.host}: {t.facts["color"]}' for t in every)
  return f'error: colors: {hosts}' if len(found) > 1 else ''


def main(how):
  socket.gethostname = lambda: f'host-{how["process"]}'
  rollcall.BEAT_SECONDS = rollcall._FIRST_NOTE_SECONDS = 0.2
  rollcall._NOTE_SECONDS = 0.5
  seconds = how['join_seconds']
  if seconds is None:
    seconds = 60.0
    over = lambda: bool(select.select([sys.stdin], [], [], 0)[0])
    rollcall.Notes.left = lambda notes: 0.0 if over() else seconds
  doing = ['']
  gang = gang_lib.join(
    ids_lib.Ids(how['coordinator'], how['processes'], how['process']),
    lambda: doing[0],
    join_seconds=seconds,
    peer_seconds=how['peer_seconds'],
  )
  print('joined', gang.start.word, *gang.start.hosts, flush=True)
  for color in how['colors']:
    gang.agree(dict(color=color), difference)
  print('agreed', flush=True)
  for line in sys.stdin:
    verb, _, text = line.strip().partition(' ')
    if verb == 'phase':
      doing[0] = text
    elif verb == 'until':
      while text not in {peer.status for peer in gang._peers.values()}:
        time.sleep(0.01)
      print('heard', flush=True)
    elif verb == 'leave':
      gang.leave()
      return
    elif verb == 'end':
      gang.end(text, exits.FOR_USER)
    elif verb == 'fail':
      gang.end(f'Traceback:\n{text}', exits.BUG)


main(json.loads(sys.argv[1]))
