"""Replace secret values in a stream of bytes, in every form they may be printed in, however it is chopped."""

import base64
import json
import re

MASK = b"***"
MIN_BYTES = 8  # shorter values would blot out ordinary words


def patterns(values):
    """Every form of every value that is hidden, longest first."""
    found = set()
    for value in {*values, *(value.strip() for value in values)}:
        raw = value.encode("utf-8", "surrogatepass")
        if len(raw) >= MIN_BYTES:
            found.add(raw)
            found.update(_base64_forms(raw))
            found.update(form.encode("utf-8", "surrogatepass") for form in _text_forms(value))
    return sorted((form for form in found if len(form) >= MIN_BYTES), key=len, reverse=True)


class Masker:
    """Masks one stream. What may be the beginning of a secret is held back until that is known."""

    def __init__(self, forms):
        self._forms = forms
        self._find = re.compile(b"|".join(re.escape(form) for form in forms)) if forms else None
        self._starts = (
            re.compile(b"[" + b"".join(re.escape(form[:1]) for form in forms) + b"]") if forms else None
        )
        self._longest = len(forms[0]) if forms else 0
        self._in_lines = not any(b"\n" in form[:-1] for form in forms)
        self._held = b""

    def feed(self, data):
        """`data` masked, as far as it is certain."""
        if self._find is None:
            return data
        if self._held:
            data = self._held + data
        hold = self._unsure_from(data, 0)
        out = []
        at = 0
        if any(form in data for form in self._forms):  # much faster than the expression where there is none
            for match in self._find.finditer(data):
                if match.start() >= hold:
                    break  # it may yet grow into a longer form
                out += (data[at : match.start()], MASK)
                at = match.end()
        if at > hold:
            hold = self._unsure_from(data, at)
        self._held = data[hold:]
        return b"".join(out) + data[at:hold] if out else data[:hold]

    def flush(self):
        """The rest, at the end of the stream."""
        rest, self._held = self._held, b""
        return self._find.sub(MASK, rest) if rest else rest

    def _unsure_from(self, data, start):
        """Where the longest end of `data` begins that is a proper beginning of a form."""
        start = max(start, len(data) - self._longest + 1)
        if self._in_lines:
            start = max(start, data.rfind(b"\n") + 1)
        for match in self._starts.finditer(data, start):
            tail = data[match.start() :]
            if any(len(form) > len(tail) and form.startswith(tail) for form in self._forms):
                return match.start()
        return len(data)


def mask(forms, text):
    """A whole text, masked."""
    masker = Masker(forms)
    return (masker.feed(text.encode("utf-8", "replace")) + masker.flush()).decode("utf-8", "replace")


def _text_forms(value):
    """URL-quoted, JSON-escaped and as a Python literal."""
    from urllib.parse import quote, quote_plus  # a job without secrets starts sooner without it

    plain = value.encode("utf-8", "surrogatepass")
    for quoted in (quote(plain, safe=""), quote(plain), quote_plus(plain)):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda match: match.group().lower(), quoted)
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")
    yield repr(value)[1:-1]


def _base64_forms(raw):
    """What is always there of `raw` in the base64 of a text around it, wherever on the grid it lies."""
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw)
        first = (before * 8 + 5) // 6  # characters that the bytes before also shape
        last = (before + len(raw)) * 8 // 6  # from here on the bytes behind shape them
        for form in (whole[first:], whole[first:last]):
            yield form
            yield form.translate(bytes.maketrans(b"+/", b"-_"))
