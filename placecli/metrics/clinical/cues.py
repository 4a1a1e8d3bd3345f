"""Words that deny a finding, leave it open, or speak of another time. `patterns.compile_phrases` explains the notation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Cue = Literal["deny", "deny_device", "affirm", "doubt", "doubt_next", "elsewhere"]
"""deny: the finding is absent. affirm: it is present although the words look like a denial. doubt: it is uncertain, as far
as the clause goes; doubt_next: as far as the next comma or "and". elsewhere: it belongs to another time or to a question."""

_SEEN: Final = (
    "seen/identified/present/evident/visualized/visualised/appreciated/demonstrated/noted/apparent/detected/found/"
    "observed/visible/suspected/shown/revealed/suggested/recognized/likely"
)
_HOW_SURE: Final = (
    "definitely/clearly/convincingly/definitively/currently/acutely/radiographically/confidently/specifically/_"
)
_HALF: Final = "partially/partly/nearly/almost/incompletely/mostly/largely/not/near/partial/incomplete"
_CANNOT: Final = "cannot/cant/not/difficult/impossible/without"
_CHANGE: Final = (
    "change/changes/increase/decrease/improvement/worsening/progression/resolution/clearing/alteration/"
    "difference/evolution/growth/migration/regression"
)
_HOW_MUCH: Final = (
    "significant/interval/substantial/appreciable/obvious/overall/major/definite/gross/further/radiographic/real/_"
)

FORWARD: Final[Mapping[Cue, tuple[str, ...]]] = {
    "affirm": (
        f"no/without/not {_HOW_MUCH} {_HOW_MUCH} {_CHANGE}",
        f"no/without evidence of/for {_HOW_MUCH} {_HOW_MUCH} {_CHANGE}",
        "not significantly/substantially/appreciably/_ changed/increased/decreased/improved/worsened/resolved/cleared",
        "not only",
        "not without",
        "no/without interval/_ improved/worsened/changed/increased/decreased",
        "partial/near/incomplete/partially/nearly/incompletely/almost/mostly complete/completely/_ "
        "resolution/resolved/clearing/cleared",
        "no doubt",
        "not absent",
    ),
    "deny": (
        "no",
        "without",
        "nor",
        "neither",
        "negative for",
        "free of/from",
        "clear of",
        "absence of",
        "absent",
        "lack/lacks/lacking of/_",
        "devoid of",
        "denies",
        "not a/an/the/any",
        "not appear/felt/thought to be/represent/indicate/have",
        "expanded and clear",
        "not show/see/identify/demonstrate/reveal/appreciate/have/contain/represent/indicate/detect/visualize/find/suggest",
        "not convincingly/definitely/clearly show/see/identify/demonstrate/reveal/appreciate",
        "not suspicious/concerning/suggestive/consistent/indicative/compatible",
        "resolution of",
        "resolved",
        "clearing of",
        "excludes",
        "rules out",
        "unlikely",
        "never",
        "instead of",
    ),
    "deny_device": ("removal of", "removed", "explanted", "extubated", "extubation"),
    "doubt": (
        "may/might/could",
        "likely/probably/possibly/presumably represent*/reflect*/related/due/secondary/from/be/indicat*/be/is/are",
        "suggest*",
        "suspicious/concerning/worrisome/concern/suspicion/indeterminate/questionable for/of",
        "suspect*",
        "suspicion/possibility/question/likelihood/consideration of/for/_",
        f"{_CANNOT} be/to/entirely/completely/definitively/_ exclude/excluded/excluding",
        f"{_CANNOT} be/to/entirely/completely/_ rule/ruled out",
        "exclude",
        "rule out",
        "r or o",
        "consider*",
        "differential",
        "favor*",
        "rather than",
        "less likely",
        "versus/vs",
        "question/questions/questioned",
        "would be",
        "can represent/be/reflect",
        "presumed",
        "raise*/raising the/_ question/possibility",
    ),
    "doubt_next": (
        "possible",
        "possibly",
        "probable",
        "probably",
        "questionable",
        "questionably",
        "equivocal",
        "borderline",
        "potential",
        "potentially",
        "likely",
        "presumably",
        "apparent",
    ),
    "elsewhere": (
        "history of",
        "hx of",
        "h or o",
        "evaluate/evaluation/assess/assessment/check/eval/screening/looking/workup for/of",
        "clinical/_ indication for",
        "risk of/for",
        "treated for",
        "correlate/correlation clinically/_ for",
        "to identify",
        "may/could/might/can obscure/mask/hide",
        "treatment/therapy of/for",
    ),
}
"""Cues that bear on what follows them in the clause."""

BACKWARD: Final[Mapping[Cue, tuple[str, ...]]] = {
    "affirm": (
        f"{_HALF} completely/complete/fully/entirely/yet/_ resolved/cleared/resolution",
        "not significantly/substantially/_ changed/increased/decreased",
        "not well/optimally/completely/fully/adequately/entirely seen/visualized/evaluated/assessed/imaged/characterized",
    ),
    "deny": (
        f"not {_HOW_SURE} {_SEEN}",
        f"no longer {_HOW_SURE} {_SEEN}",
        "not radiographically/clearly/well/_ evident/apparent",
        "is/are/was/were/been absent",
        "absent",
        "resolved",
        "has/have/had interval/since/subsequently/_ cleared",
        "disappeared",
        "ruled out",
        "excluded",
        "unlikely",
        "is/are negative",
        ": none/no/absent/negative",
        "gone",
    ),
    "deny_device": (
        "has/have/been/was/were/is/are been/subsequently/since/interval/now/_ removed",
        "removed",
        "explanted",
        "withdrawn",
    ),
    "doubt": (
        f"{_CANNOT} be/_ entirely/completely/definitively/_ exclude/excluded",
        f"{_CANNOT} be/_ entirely/completely/_ rule/ruled out",
        "is/are/be/remains possible",
        "is/are a/another/_ consideration/possibility/concern/possibilities/considerations",
        "is/are/was be/_ suspected/suggested/questioned/considered/favored/presumed",
        "is/are likely/probable/questionable/equivocal",
        "suspected",
        "also/_ in the differential",
        "may/might/could be/also/_ be/_ present/considered/seen",
        "less likely",
        "not entirely/completely/definitely excluded",
        "questioned",
    ),
    "elsewhere": (
        "cannot/not be/_ assessed/evaluated/determined",
        "excluded from view",
    ),
}
"""Cues that bear on what stands before them in the clause."""

FORMER: Final = (
    "prior/previous/old/remote/past/healed/treated/recent/former focal/acute/left/right/granulomatous/bilateral/_ "
    "lower/upper/middle/_ lobe/_"
)
"""Directly before a finding that passes: a former one, not one that is seen now."""

TRANSIENT: Final = ("Pneumonia", "Edema", "Consolidation", "Atelectasis", "Pneumothorax", "Pleural Effusion")
"""Findings of which a former one leaves nothing to see; an old fracture or scar is still there."""

ANOTHER_CLAUSE: Final = (
    "but/however/although/though/except/whereas/while/yet/otherwise/which/nevertheless/nonetheless",
    "aside/apart from",
    "other than",
    "with the exception of",
)
"""After these a cue reaches no further, in either direction."""

NO_FURTHER: Final = (
    "after/following/despite/since/given/secondary/due/because",
    "status post",
    "s or p",
    "in the setting of",
    "related to",
    "with",
)
"""A denial does not reach past these."""

JOINED_WITH: Final = "consistent/compatible/associated/keeping/correlate/correlation/concerned/together/along"
"""Words after which a "with" ends nothing."""

VERBS: Final = (
    "is/are/was/were/has/have/had/remain/remains/appear/appears/show/shows/demonstrate/demonstrates/may/might/could/can/"
    "cannot/suggest/suggests/represents/reflect/reflects/lie/lies/terminate/terminates/project/projects/overlie/overlies/"
    "measures/contains/extends"
)
PREDICATES: Final = (VERBS, "normal/clear/unremarkable/enlarged/stable/unchanged/within/midline/intact")
"""Words by which a part of a sentence says something of its own."""

OF_A_LIST: Final = f"is/are/was/were {_SEEN}"
"""The common verb of a denied list: "no effusion and pneumothorax is seen"."""

OPENS_STATEMENT: Final = (
    "the/a/_ mild*/moderate*/minimal*/small/tiny/trace/slight*/stable/unchanged/persistent/chronic/old/low/improved/decreased/"
    "increased/bibasilar/subsegmental/linear/scattered/calcified/possible/probable/questionable/likely/suspected/there/this/"
    "these/again/status/streaky/severe/marked/tortuous/prominent/enlarged/normal/hyperexpanded/hyperinflated/continued/new"
)
"""Beginnings of what is stated and not denied, where it follows a denial after a comma or "and"."""
