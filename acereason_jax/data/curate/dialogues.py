"""Programming problems whose programs talk to a judge.

What is told is a dialogue: the program asks, somebody replies, and it reads the
reply before it asks again. Queries of the input have no reply to read.
"""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import gates, statements
from acereason_jax.data.curate.values import Row

_INTERACTIVE = gates.gates(
  r'\b(?:responses?|reply|replies|answers?) (?:of|from|by) the (?:judge|jury'
  r'|grader|interactor)\b|\bflush (?:after|your|stdout)\b'
  r'|\binteractive (?:problem|task|mode|program|protocol|judge|communication)'
  r'|\bis interactive\b|\binteractors?\b|\binteraction (?:protocol|format|with'
  r' (?:the )?(?:judge|jury|grader|system|interactor))'
  r'|\bflush(?:ing|ed|es)? (?:the |your |its |standard )?(?:standard'
  r' )?(?:output'
  r'|stdout|buffer|stream)|\b(?:output|stdout) (?:must|should|needs to|has'
  r' to) be flushed|\bfflush\b|\bstdout\.flush|\bcout\.flush|\bflush=true'
  r'|\b(?:output|print|end of line|query|line),? (?:do not|don\'t) forget to'
  r' flush|\b(?:to|then|and|should|must) flush\b(?= ?[.,;)]| after| once| it\b)'
  r'|\b(?:judge|jury|grader) will (?:answer|reply|respond|tell)\b'
  r'|\b(?:judge|jury|grader|jury\'s program|system|checker) (?:will'
  r' )?(?:respond|repl|answers? (?:your|each|the) (?:quer|question))'
  r'|\b(?:communicates?|interacts?|talks?) (?:with|to) (?:the |an? )?(?:judge'
  r'|jury|grader|hidden|interactor|program|library|system|testing)'
  r'|\b(?:ask|make|perform|send|submit|use) (?:up to|at most|no more than|not'
  r' more than) [^.?!\n]{1,25}(?:queries|questions|requests|guesses|calls)\b'
  r'|\b(?:output|print)(?:t?ing|s)? [^.?!\n]{0,30}["\'`\u201c]\? '
  r'|\b(?:output|print)(?:t?ing|s)? (?:a line |a single line |one line )?'
  r'(?:in the (?:form|format) |of the form |containing |with'
  r' )?["\'`$\u201c]{0,3}\? '
  r'|\b(?:pre-?defined|given|provided|hidden|following)? ?(?:API|interface)s?\b'
  r'[^.?!\n]{0,40}\b(?:guess|isbadversion|knows|read4|query|reader|which'
  r' (?:will )?returns?|is (?:already )?defined for you|that returns)\b'
  r'|\byou (?:can|may|must|should) (?:only )?(?:access|call|use) (?:the|this'
  r'|it|an)'
  r' ?(?:\w+ )?(?:API|interface)\b',
)

_JUDGE = (
  r'(?:judge|jury|grader|checker|interactor|testing system|judging system'
  r'|(?:judge|jury|grader)\'s (?:program|side)|system|evaluator)'
)
_ASKED = (
  r'(?:queries|quer(?:y|ies)|questions?|guess(?:es)?|requests?|proposals?'
  r'|weighings?|probes?|calls?|measurements?|comparisons?|attempts?)'
)
_REPLY = r'(?:repl(?:y|ies)|responses?|feedback|moves?|turn|verdict)'
_YOU = r'(?:you|your (?:program|solution|code|bot)|the (?:program|solution)|it)'
# Any of these tells of a dialogue.
_DIALOGUE = gates.gates(
  # The judge's reply; the grader answers with their distance.
  rf'\b(?:judge|grader|interactor|checker|jury)(?:\'s|s\'|\u2019s) (?:own )?{_REPLY}\b'
  rf'|\b{_REPLY} (?:of|from|by) (?:the )?{_JUDGE}\b'
  rf'|\b(?:the|our) {_JUDGE}\b(?:, who [^,\n]{{1,60}},)? (?:will |then |always |also |first ){{0,2}}'
  r'(?:answers?|repl(?:y|ies)|responds?|tells? (?:you|your|it|whether|if)'
  r'|returns?|prints?|says?|sends?|gives? (?:you|back|its)|tells? "'
  r'|informs?|reports? back|writes?|chooses?|thinks? of|hides?|moves?|plays?)\b'
  r'(?! (?:the )?(?:marks?|scores?|points|medal))'
  rf'|\b(?:with|against|to) the {_JUDGE}\b[^.?!\n]{{0,60}}\b(?:messages?|turns?|streams|'
  r'dialog(?:ue)?|protocol|through|via|by reading|using|over)\b'
  rf'|\b(?:play|talk|speak|communicat\w+|exchang\w+|interact\w*|convers\w+|negotiat\w+)\b[^.?!\n]{{0,40}}'
  rf' (?:with|against|to) (?:the |an? )?(?:{_JUDGE}|computer program|opponent program)\b'
  # As the reply to a question; after each query read one integer.
  rf'|\b(?:repl(?:y|ies)|response|answer|reaction) to (?:a|your|the|each|every|its|this|that) (?:\w+ )?{_ASKED}'
  rf'|\bafter (?:each|every|your|the|any|printing|asking|sending)(?: of your| such| a| the| your)? (?:\w+ )?(?:{_ASKED}|moves?|turn|output|line)\b'
  r'[^.?!\n]{0,60}\b(?:read|wait|receive|you (?:will )?(?:get|are told|learn|receive)|is told)'
  r'|\b(?:then|and|before|must|should|to|can|will) read(?:ing)? (?:in )?(?:the |its |their |back |a |one ){0,2}'
  r'(?:judge|jury|grader|repl|respon|feedback|verdict|opponent|answer to|result of (?:the|your) quer|["\'`][<>=YyNn01])'
  r'|\breading the (?:answers?|repl(?:y|ies)|responses?|results?) (?:after|to|of|before)'
  r'|\bwait (?:for|until) (?:the |its |their |a |you |an )?(?:\w+ )?(?:repl|respon|answer|opponent|judge|jury|grader|move|receive)'
  rf'|\b{_YOU} (?:will |must |can |may |should |then )?(?:receives?|reads?|gets?|is given|are given) [^.?!\n]{{0,40}}\b(?:as|in) (?:the |a |an )?(?:reply|response|reaction|feedback|answer)\b'
  rf'|\b{_YOU} [^.?!\n]{{0,60}}\b(?:is|are) told (?:after|whether|if|how|the|only|in)'
  rf'|\byour (?:program|solution|code|bot) (?:\w+ ){{0,3}}?(?:asks?|quer(?:y|ies)|proposes?|guesses|talks?|exchanges?|communicates?|interacts?|waits?|plays)\b'
  # At most 30 questions are allowed; you have 10 guesses.
  rf'|\b{_ASKED} (?:are|is) (?:allowed|permitted)\b'
  rf'|\b(?:number|limit|amount) (?:of|on|for) (?:the |your |allowed )?{_ASKED} (?:you|is|are|that you|may|allowed|made)\b'
  rf'|\b(?:limit|maximum|allowed number) of (?:\w+ )?{_ASKED}\b'
  rf'|\b{_YOU} (?:\w+ ){{0,4}}?(?:have|has|allowed|ask|make|makes|use|uses|spend|perform|issue|send|print|hit|find|guess)'
  r'\b[^.?!\n]{0,80}?\b(?:at most|no more than|not more than|up to|within|only|exactly|fewer than|less than|have)'
  rf' [^.?!\n]{{1,20}} {_ASKED}\b'
  rf'|\bprint (?:up to|at most|no more than) [^.?!\n]{{1,16}} {_ASKED}\b'
  rf'|\bwith(?:in)? (?:at most|no more than|up to|only|fewer than|just) [^.?!\n]{{1,16}} {_ASKED}\b'
  # Of what is hidden one may ask.
  rf'|\b(?:hidden from you|kept secret|not (?:given|known|shown|revealed) to you|you (?:do not|don\'t|cannot|can\'t) (?:know|see))\b[^?]{{0,200}}\byou (?:can|may|are allowed to|could) (?:only )?(?:ask|make|quer|call|request|use)'
  rf'|\b(?:hidden|secret|unknown|mystery|invisible|chosen in secret)\b[^?]{{0,200}}\byou (?:can|may|must|are allowed to|could|have to|will) (?:only )?(?:ask|query|guess|call|request)\b'
  r'|\b(?:ask|query|print|request|send|make|guess|call)\b[^?]{0,120}\b(?:hidden|secret) (?:number|permutation|array|word|string|graph|tree|code|value|element|integer|sequence|set|point|vertex|node|box|matrix|function|polynomial)s?\b[^?]{0,200}'
  rf'\b(?:at most|no more than|up to|within) [^.?!\n]{{1,16}} {_ASKED}'
  # "?" to weigh it; send "!" and the edges.
  r'|["\'`\u201c]\?(?: [\w ,$<>]{1,20})?["\'`\u201d] (?:to|asks|for a|means|followed|quer)'
  r'|\b(?:send|print|output|write|finish|report|answer|say)(?:s|ing)?\b[^.?!\n]{0,30}["\'`\u201c]!(?: |["\'`\u201d])'
  r'|\A(?:[^\n]{0,40}\n)?#{0,4} ?\*{0,2}interaction\b|\n ?#{0,4} ?\*{0,2}interaction ?\*{0,2}[:\n]'
  r'|(?:\A|\n|[.?!] )interaction ?:|\b(?:communication|query|dialog(?:ue)?) (?:protocol|format)\b'
  r'|\b(?:unbuffered|line-buffered|buffering) output\b|\boutput (?:is|must be|should be) unbuffered'
  r'|\bendl\b|\bidleness limit|\badaptive (?:judge|grader|interactor|jury|checker)|\b(?:judge|grader|interactor|jury|checker) (?:is|may be|can be) adaptive'
  r'|\b\w{2,20}\.\w{2,20}\([\w, ]{0,30}\) (?:which |that )?(?:returns?|repl(?:y|ies)|tells|gives|answers)'
  r'|\b(?:call|calling|function|api|use|using|via|through|method) (?:the )?(?:function |method |api )?[`"\']?(?:\w+ )?\w*(?:guess|query|ask|compare|isbad\w*|knows|read4|probe|weigh|measure)\w{0,12}\(',
)
_ASK = r'(?:print|writ|send|ask|output|quer|guess|say|put|propos|call)(?:e|es|s|ed|ing|ting|y|ies|ying)?'
# It is told as a talk: print, and then read; ours is the other program.
_TALK = gates.gates(
  rf'\b(?:you |your program |it |then |first |we )?{_ASK}\b[^.?!\n]{{2,100}}?(?:,|;|:| and| then| after which| -|\.)(?: then| and| you| it| after| each| which| of| will| can){{0,5}} (?:read|get|gets|receive|receives|wait for|learn) (?:the|its|an?|one|back|1|0|[\'"<]|your|their|in|whether|how|if|as (?:a|an|the)) ?(?!full|points?|marks?|next (?:line|number|test)|input)'
  rf'|\b(?:each time|whenever|every time|once|after) (?:you|your program|it) (?:has |have )?{_ASK}\b[^.?!\n]{{2,80}}?\b(?:you|it) (?:will )?(?:get|gets|read|reads|receive|receives|learn|learns|is told|are told)\b'
  rf'|\bafter (?:each|every|which|"|\'|`|your|the|that|it)[^.?!\n]{{0,50}}?(?:,| line)? ?(?:you |your program |it |please )?(?:read|reads|get|gets|receive|receives|wait|are told|is told) (?:the|its|an?|one|back|[\'"<01]|for|in|whether|how)'
  r'|\bread (?:the |its |their |back ){0,2}(?:\w+(?:\'s)? )?(?:repl(?:y|ies)|responses?|feedback|verdict|answers?) (?:after|to|before|from|of|back|each|on)\b'
  r'|\byou (?:will )?read ["\'`]?\w{1,12}["\'`]? (?:if|when|for)\b|\b(?:repeat|go on|continue|proceed|carry on) until you (?:read|get|receive|see)'
  r'|\b(?:our|the judge\'s|the jury\'s|the judging|the grader\'s|the contest|the organi[sz]ers\'|the testing|the judge|the jury) (?:\w+ )?(?:program|robot|bot|server|device|strategy|machine|ai|player|opponent|computer)\b(?! of the year)'
  r'|\b(?:with|against|to|from|via|through) (?:the )?(?:judging|testing|contest|grading) (?:program|system|server|software|machine)'
  r'|\byou ask,? (?:and )?(?:we|it|they|the \w+) (?:answer|repl|tell|respond)|\bwe (?:will )?(?:answer|reply|respond|tell you)\b'
  r'|\b(?:the |this )?interaction (?:stops?|ends?|begins?|starts?|is over|proceeds?|continues?|with|is finished|goes|takes|looks|consists|works|between your)\b'
  r'|\b(?:interact|communicate|talk|converse)(?:s|ing)? with (?:the |our |an? |each )?(?:\w+ )?(?:program|judge|system|server|grader|jury|bot|library|device|oracle|opponent)\b'
  rf'|\b(?:your program|your solution|your code|you) [^.?!\n]{{0,40}}\b(?:more than|at most|as few as|as many as|fewer than|no more than|up to|only|exactly|within|in) [^.?!\n]{{1,16}} (?:{_ASKED}|tries|checks|rounds|probes|turns|trials|pings|lookups|tests of)\b'
  rf'|\b(?:first|next|last|any|each|every|one) (?:of your )?{_ASKED} (?:you|your program) (?:ask|make|print|send)|\b(?:before|after|with|between|for) your (?:first|next|last|\w+th|previous|own)? ?{_ASKED}\b'
  rf'|\bnumber of (?:earlier|previous|your|further|used|remaining|allowed) {_ASKED}\b|\byou have [^.?!\n]{{1,16}} (?:tries|checks|trials|guesses|queries|questions|attempts)\b'
  r'|\b(?:your (?:last )?(?:move|turn)|at your turn|on your turn|exchange moves|moves? alternately with)\b[^.?!\n]{0,80}\b(?:read|print|input|output|stdin|stdout|program|judge|receive|get)\b'
  r'|\b(?:print|write|exchange|output)[^.?!\n]{0,40} (?:moves|yours|your move)\b[^.?!\n]{0,60}\b(?:opponent|program|judge|server|grader|jury)'
  r'|\b(?:copies|instances|runs) of your (?:program|solution|code)\b|\byour (?:program|solution) (?:is|will be) run (?:twice|two times)'
  r'|\b(?:exit|terminate|stop|quit|halt) (?:immediately|at once|right away)[^.?!\n]{0,40}|\binstead of an arbitrary verdict|\bto (?:receive|get|avoid) (?:a )?["\']?(?:wrong answer|idleness|time limit)'
  r'|\bwrit\w+ [^.?!\n]{1,40} to (?:stdout|standard output), (?:and )?(?:then )?read'
  r'|\b(?:answers|replies to|responds to) ["\'`\u201c]|\b(?:query|ask|probe|measure) (?:it|them|the \w+) (?:by|with|using) ["\'`\u201c]'
  r'|\b(?:hidden|secret|unknown|unseen|concealed|fixed (?:in advance|before))\b[^?]{0,240}\byou (?:ask|get|can|may|have|print|query|guess|learn|must|need|are told|are allowed|should)\b'
)
# Marks of a show, logs and finished games: all is told in the input.
_OFFLINE = gates.gates(
  r'\b(?:log|transcript|history|record) of\b|\bfinished game\b|\bin advance\b'
  r'|\bgiven (?:all |are )?(?:the )?(?:\w+ )?(?:replies|responses|moves|guesses)\b'
  r'|\ball (?:queries|guesses|questions) are (?:given|known)|\boffline\b|\bgiven beforehand\b|\b(?:hidden|secret) \w+ (?:is|are) given\b',
)


def interactive(row: Row) -> Mapping[str, Any] | None:
  words = statements.prepared(row.problem).text
  low = words.lower()
  match = gates.search(_INTERACTIVE, words, low)
  if match is None and not gates.search(_OFFLINE, words, low):
    match = gates.search(_DIALOGUE, words, low) or gates.search(
      _TALK, words, low
    )
  if match is None:
    return None
  return {'matched': statements.shown(words, *match.span())}
