"""What a page holds and a browser does not show: by attributes, by inline styles, and by the page's own style sheets.

Of CSS stands here what hides text: `display`, `visibility`, `font-size: 0`, boxes of no size or far outside of the
window, and `opacity: 0` of words, by importance, specificity and order. What is transparent as a block is faded in by a
script. Sheets in other files are not there; of their classes those are known that hide on any site.
"""

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

# Most nodes times selectors, for a selector of several steps times the depth, too: two seconds.
MAX_MATCHES = 200_000_000
# Discuz's noise against copying; text for screen readers, of Bootstrap, HTML5 Boilerplate and WordPress.
_BY_NAME = ".jammer, .sr-only, .visually-hidden, .visuallyhidden, .screen-reader-text"
# Width in pixels of the window that `@media` is asked about.
_WINDOW = 1280
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|<!--|-->", re.DOTALL)
_BRACE = re.compile(r"([^{}]*)([{}]|\Z)")
_PROPERTY = re.compile(
    r"(?:^|;)\s*(display|visibility|font-size|max-height|height|width|overflow|clip-path|clip|opacity|left|top|text-indent"
    r"|content-visibility)\s*:\s*([^;]{1,80})"
)
_ZERO = re.compile(r"0*\.?0*(?:[a-z]{2,4}|%)?")
_TINY = re.compile(rf"{_ZERO.pattern}|[01](?:\.\d*)?p[xt]")
# As authors write it; sliders move by other lengths.
_AWAY = re.compile(r"-(?:9{3,6}|[1-9]\d{4,})(?:px|pt)?|-\d{3,}r?em")
# Words in a line.
_WORDS = frozenset("a abbr b big em font i ins label s small span strong sub sup u".split())
_RELATIVE = re.compile(r".*(?:em|%|inherit|smaller|larger)")
_CLIPPED = re.compile(r"rect\((?:[01](?:px)?[,\s]*){4}\)|inset\((?:50|100)%\)")
_QUERY = re.compile(r"\((min|max)-width\s*:\s*(\d{1,5})px\)|\(|\b(?:print|speech|not)\b")
# At most six steps of tags, classes, ids and attributes; a state (`:hover`) or `::before` is no text of the page.
_SIMPLE = r"(?:[\w*#.-]|\\.|\[[^\]]{1,80}\]|:not\([^()]{1,80}\))+"
_SELECTOR = re.compile(rf"{_SIMPLE}(?:[\s>+~]+{_SIMPLE}){{0,5}}")
LONGEST_SELECTOR = 300  # characters
_SPECIFIC = re.compile(r"(#)[\w-]+|([.\[])[^.#\[\s>+~]+|[a-z][\w-]*", re.IGNORECASE)
_STEP = re.compile(r"[\s>+~]+")
_NOT = re.compile(r":not\([^()]*\)")
_NAME = re.compile(r"[\w-]+")

# A property, whether it is important, and whether it shows what it is said of.
Declared = list[tuple[str, bool, bool]]
Held = dict[int, tuple[LexborNode, dict[str, bool]]]
Styled = list[tuple[LexborNode, Declared]]
Rules = list[tuple[str, Declared]]


def hidden_nodes(tree: LexborHTMLParser, tags: int, depth: int) -> dict[int, LexborNode]:
    """Return the elements that are not shown with all below them, and single texts that are not, by `mem_id`.

    Args:
        tree: A parsed page.
        tags: How many tags it has, about.
        depth: How deep they are nested, at most.

    Raises:
        OverflowError: Its styles take more than seconds to match; the message says how many there are.
    """
    hidden = {node.mem_id: node for node in tree.css(f"[hidden], dialog:not([open]), {_BY_NAME}")}
    for node in tree.css("[aria-hidden]"):
        if (node.attributes["aria-hidden"] or "").strip().lower() == "true":
            hidden[node.mem_id] = node
    inline = [(node, _declared(node.attributes["style"] or "")) for node in tree.css("[style]")]
    rules = list(_rules(tree))
    hiding = {name for _, declared in (*inline, *rules) for name, _, shows in declared if not shows}
    if not hiding:
        return hidden
    several = sum(1 for selector, _ in rules if _STEP.search(selector))
    if tags * depth * several + (tags + 2000) * len(rules) > MAX_MATCHES:
        raise OverflowError(f"{tags} tags, {depth} deep, {len(rules)} selectors of style")
    held = _held(tree, inline, rules, hiding)
    for key, (node, shown) in held.items():
        # What hides the whole page waits for a script.
        names = ("display", "box", *(["opacity"] if node.tag in _WORDS else []))
        if node.tag not in ("html", "body") and not all(shown.get(name, True) for name in names):
            hidden[key] = node
    if tree.body and not hiding <= {"display", "box", "opacity"}:
        hidden |= {text.mem_id: text for text in _unseen(tree.body, held)}
    return hidden


def _held(tree: LexborHTMLParser, inline: Styled, rules: Rules, names: set[str]) -> Held:
    """Return the nodes that something hides, and what of `names` holds for them in the end."""
    found: list[tuple[tuple[int, ...], list[LexborNode], str, bool]] = [
        ((important, True), [node], name, shows) for node, declared in inline for name, important, shows in declared
    ]
    ranked = [
        ((important, False, *_specificity(selector), order), selector, name, shows)
        for order, (selector, declared) in enumerate(rules)
        for name, important, shows in declared
        if name in names
    ]
    found += [(rank, _matching(tree, selector), name, False) for rank, selector, name, shows in ranked if not shows]
    words: set[str] = set()
    for _, nodes, _, shows in found:
        for node in nodes if not shows else ():
            words.update(_NAME.findall(f"{node.tag} {' '.join(map(str, node.attributes.values()))}"))
    for rank, selector, name, shows in ranked if words else ():
        # Most selectors do not concern what is hidden. Below what is not visible, anything may be visible again.
        last = _NOT.sub("", _STEP.split(selector)[-1])
        if shows and (name in ("visibility", "font-size") or words.issuperset(_NAME.findall(last))):
            found.append((rank, _matching(tree, selector), name, True))
    held: Held = {}
    for _, nodes, name, shows in sorted(found, key=lambda one: one[0]):
        for node in nodes:
            held.setdefault(node.mem_id, (node, {}))[1][name] = shows
    return held


def _unseen(body: LexborNode, held: Held) -> Iterator[LexborNode]:
    """Yield texts that are not visible, or of size 0: what is below such an element may be seen again."""
    todo = [(body, True, True)]
    while todo:
        node, visible, sized = todo.pop()
        if node.tag == "-text" and not (visible and sized):
            yield node
        # `body` waits for a script, too.
        if node.mem_id in held and node.tag != "body":
            shown = held[node.mem_id][1]
            visible, sized = shown.get("visibility", visible), shown.get("font-size", sized)
        child = node.child
        while child is not None:
            todo.append((child, visible, sized))
            child = child.next


def _matching(tree: LexborHTMLParser, selector: str) -> list[LexborNode]:
    try:
        return tree.css(selector)
    except SelectolaxError:
        return []


def _specificity(selector: str) -> tuple[int, int, int]:
    found = [match.groups() for match in _SPECIFIC.finditer(selector)]
    ids, classes = sum(1 for one in found if one[0]), sum(1 for one in found if one[1])
    return ids, classes, len(found) - ids - classes


def _rules(tree: LexborHTMLParser) -> Iterator[tuple[str, Declared]]:
    """Yield each selector of the page's sheets, and what is declared for it, in order."""
    for sheet in tree.css("style"):
        if sheet.parent is None or sheet.parent.tag == "noscript" or not _applies(sheet.attributes.get("media") or ""):
            continue
        around: list[str] = []
        for piece in _BRACE.finditer(_COMMENT.sub("", sheet.text())):
            if piece[2] == "{":
                around.append(piece[1].rpartition(";")[2].strip())
                continue
            head = around.pop() if around else ""
            if head.startswith("@") or not all(map(_holds, around)):
                continue
            if declared := _declared(piece[1]):
                for selector in map(str.strip, head.split(",")):
                    if len(selector) <= LONGEST_SELECTOR and _SELECTOR.fullmatch(selector):
                        yield selector, declared


def _holds(at_rule: str) -> bool:
    name, _, condition = at_rule.partition(" ")
    return name in ("@layer", "@supports") or (name == "@media" and _applies(condition))


def _applies(queries: str) -> bool:
    """Say whether one of the media queries holds for a wide screen."""
    return any(
        all(found[1] and (int(found[2]) <= _WINDOW) == (found[1] == "min") for found in _QUERY.finditer(query))
        for query in queries.lower().split(",")
    )


def _declared(style: str) -> Declared:
    values: dict[str, tuple[str, bool]] = {}
    for found in _PROPERTY.finditer(style.lower()):
        value, important, _ = found[2].partition("!")
        values[found[1]] = value.strip(), bool(important)
    declared: Declared = []
    for name, (value, important) in values.items():
        if name == "display":
            declared.append((name, important, value != "none"))
        elif name == "visibility":
            declared.append((name, important, value not in ("hidden", "collapse")))
        elif name == "font-size" and (_TINY.fullmatch(value) or not _RELATIVE.fullmatch(value)):
            declared.append((name, important, not _TINY.fullmatch(value)))
        elif name == "opacity":
            declared.append((name, important, not _ZERO.fullmatch(value)))
    sizes = [bool(_TINY.fullmatch(values[name][0])) for name in ("width", "height", "max-height") if name in values]
    clipped = any(_CLIPPED.fullmatch(values[name][0]) for name in ("clip", "clip-path") if name in values)
    cut = values.get("overflow", ("", False))[0] in ("hidden", "clip")
    away = any(_AWAY.fullmatch(values[name][0]) for name in ("left", "top", "text-indent") if name in values)
    gone = away or values.get("content-visibility", ("", False))[0] == "hidden"
    if sizes or clipped or gone:
        empty = clipped or gone or (any(sizes) and (cut or (len(sizes) > 1 and all(sizes))))
        declared.append(("box", any(important for _, important in values.values()), not empty))
    return declared
