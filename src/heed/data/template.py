"""How turns become text: one template per student, used for training and evaluation alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from heed.core.component import component
from heed.core.errors import ConfigError, DataError, Mistake
from heed.core.identity import Incidental
from heed.core.types import LossOn, Message, Rendered, Span

SLOT = "{content}"


@component
class Template:
    r"""Pieces of text around each turn, `{content}` standing for what was said.

    The assistant's turn is `assistant` (its header) + content + `end_of_turn`; supervised are the
    content and the end of turn, so that the student learns to stop. What was said is never
    trimmed or changed.

    Example:
        >>> t = Template(name="toy", begin="", system="{content}\n", system_in_user=False,
        ...              default_system=None, user="Q: {content}\n", assistant="A: ",
        ...              end_of_turn="<end>", between="\n", special_tokens=())
        >>> r = t.render([Message("user", "hi"), Message("assistant", "hello")])
        >>> r.text
        'Q: hi\nA: hello<end>'
        >>> [r.text[a:b] for a, b in r.supervised]
        ['hello<end>']
        >>> t.prompt("hi")
        'Q: hi\nA: '
        >>> t.prompt_of([Message("user", "1"), Message("assistant", "2"), Message("user", "3")])
        'Q: 1\nA: 2<end>\nQ: 3\nA: '
    """

    name: Annotated[str, Incidental]
    """How the template is called."""

    begin: str
    """What stands before everything, a beginning-of-text token; empty if the student has none."""

    system: str
    """A system turn, with one `{content}`."""

    system_in_user: bool
    """Whether a system turn is put at the beginning of what the next user turn says, for students
    that know no system role; else it is a turn of its own."""

    default_system: str | None
    """What the system says in a conversation that opens without it; null for nothing."""

    user: str
    """A user turn, with one `{content}`."""

    assistant: str
    """Header of an assistant turn; the response follows."""

    end_of_turn: str
    """The token that ends an assistant turn; must be a single token of the student."""

    between: str
    """What stands between the end of an assistant turn and a further turn."""

    special_tokens: tuple[str, ...]
    """Parts of the above that must be single tokens of the student, as its end of turn must. What
    a student lacks of them is refused or learned: see `new_tokens` of the student."""

    def __post_init__(self) -> None:
        wrong = [
            Mistake(name, repr(getattr(self, name)), f"needs exactly one {SLOT}.",
                    f"Write what was said as {SLOT}.")
            for name in ("system", "user")
            if getattr(self, name).count(SLOT) != 1
        ]  # fmt: skip
        if not self.end_of_turn:
            why = "a student that never sees an end never stops."
            wrong.append(Mistake("end_of_turn", "''", why, "Name the token that ends a turn."))
        names = ("begin", "system", "user", "assistant", "end_of_turn", "between")
        for token in self.special_tokens:
            if not token or not any(token in getattr(self, name) for name in names):
                why = "stands in no part of the template."
                action = "Leave it out, or write the part with it."
                wrong.append(Mistake("special_tokens", repr(token), why, action))
        if wrong:
            raise ConfigError(wrong)

    def render(self, messages: Sequence[Message], *, loss_on: LossOn = "every_turn") -> Rendered:
        """The whole conversation as text, with the spans that are supervised.

        Args:
            messages: The turns; the assistant's is the last.
            loss_on: Which of the assistant's turns are supervised, if they say that they may be.

        Returns:
            The text, and a span for each supervised turn; there may be none.

        Raises:
            DataError: a conversation without an assistant's turn at its end, or in which somebody
                says one of the template's own tokens.
        """
        if len(messages) == 1 and messages[0].role == "text":
            self._refuse_own_tokens(messages)
            text = self.begin + messages[0].content + self.end_of_turn
            return Rendered(text, (Span(len(self.begin), len(text)),))
        if not messages or messages[-1].role != "assistant":
            raise DataError(
                f"a training conversation must end with the assistant's turn; found "
                f"{_roles(messages)}. There would be nothing to learn. Drop the row or name the "
                f"response column."
            )
        self._refuse_own_tokens(messages)
        text, spans = self._text(messages)
        said = [message for message in messages if message.role == "assistant"]
        last = len(said) - 1
        chosen = (
            span
            for i, (message, span) in enumerate(zip(said, spans, strict=True))
            if message.supervised and (loss_on == "every_turn" or i == last)
        )
        return Rendered(text, tuple(chosen), tuple(spans))

    def prompt(self, instruction: str) -> str:
        """One user turn, up to where the assistant's answer begins."""
        return self.prompt_of([Message("user", instruction)])

    def prompt_of(self, messages: Sequence[Message]) -> str:
        """A conversation so far, up to where the assistant's next answer begins.

        Raises:
            DataError: the assistant has spoken last, or nobody has.
        """
        return "".join(self.prompt_pieces(messages))

    def prompt_pieces(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """The same in the pieces that are tokenised one by one, as training does."""
        if not messages or messages[-1].role == "assistant":
            raise DataError(
                f"an answer must follow somebody else's turn; found {_roles(messages)}. The "
                f"student would answer itself. Add the user's next turn."
            )
        opened, turns = self._text([*messages, Message("assistant", "")])
        asked = Rendered(opened.removesuffix(self.end_of_turn), (), tuple(turns[:-1]))
        return tuple(text for text, _ in asked.pieces)

    def _text(self, messages: Sequence[Message]) -> tuple[str, list[Span]]:
        """The text, and where in it each assistant's turn stands."""
        if self.default_system is not None and messages[0].role != "system":
            messages = [Message("system", self.default_system), *messages]
        text, held = self.begin, ""
        spans: list[Span] = []
        for message in messages:
            if spans and spans[-1].stop == len(text):
                text += self.between
            if message.role == "assistant":
                self._refuse_held(held)
                start = len(text + self.assistant)
                text += self.assistant + message.content + self.end_of_turn
                spans.append(Span(start, len(text)))
            elif message.role == "user":
                text += self.user.replace(SLOT, held + message.content)
                held = ""
            elif message.role == "system":
                framed = self.system.replace(SLOT, message.content)
                text, held = (text, held + framed) if self.system_in_user else (text + framed, "")
            else:
                raise DataError(f"a turn of role {message.role!r} cannot stand in a conversation.")
        return text, spans

    def _refuse_held(self, held: str) -> None:
        if held:
            raise DataError(
                f"the template {self.name!r} knows no system role: what the system says goes into "
                f"the next user's turn, but the assistant's follows. It would be lost. Drop the "
                f"row, or let the user speak first."
            )

    def _refuse_own_tokens(self, messages: Sequence[Message]) -> None:
        for message in messages:
            for token in (self.end_of_turn, *self.special_tokens):
                if token in message.content:
                    who = "the text" if message.role == "text" else f"the {message.role}'s turn"
                    raise DataError(
                        f"{who} says {token!r}, which is a token of the "
                        f"template {self.name!r}: the student would learn that a turn ends or "
                        f"begins there. Drop the row, or write the token otherwise."
                    )

    def jinja(self) -> str:
        """The same template in the form that `transformers` saves beside a tokenizer."""
        system = _framed(self.system)
        turn = f"{{% set held.text = held.text + {system} %}}"
        system_turn = turn if self.system_in_user else f"{{{{ {system} }}}}"
        lost = "{% if held.text %}{{ raise_exception('No user turn follows the system turn.') }}"
        lost += "{% endif %}"
        said = f"{_quoted(self.assistant)} + m['content'] + {_quoted(self.end_of_turn)}"
        default = ""
        if self.default_system is not None:
            first = f"{{'role': 'system', 'content': {_quoted(self.default_system)}}}"
            default = (
                "{% if messages[0]['role'] != 'system' %}"
                f"{{% set messages = [{first}] + messages %}}{{% endif %}}"
            )
        return (
            f"{default}{{% set held = namespace(text='') %}}{{{{ {_quoted(self.begin)} }}}}"
            "{% for m in messages %}"
            f"{{% if m['role'] == 'system' %}}{system_turn}"
            f"{{% elif m['role'] == 'user' %}}{{{{ {_framed(self.user, 'held.text + ')} }}}}"
            "{% set held.text = '' %}"
            f"{{% elif m['role'] == 'assistant' %}}{lost}{{{{ {said} }}}}"
            "{% else %}{{ raise_exception('Unknown role: ' + m['role']) }}{% endif %}"
            "{% if m['role'] == 'assistant' and not loop.last %}"
            f"{{{{ {_quoted(self.between)} }}}}{{% endif %}}{{% endfor %}}{{% if"
            f" add_generation_prompt %}}{lost}{{{{ {_quoted(self.assistant)} }}}}{{% endif %}}"
        )


def _roles(messages: Sequence[Message]) -> str:
    return ", ".join(message.role for message in messages) or "no turn at all"


def _quoted(text: str) -> str:
    """A text as a literal of the Jinja language."""
    for plain, escaped in (("\\", r"\\"), ("'", r"\'"), ("\n", r"\n"), ("\r", r"\r")):
        text = text.replace(plain, escaped)
    return f"'{text}'"


def _framed(frame: str, before: str = "") -> str:
    """A frame as a Jinja expression, the turn's content in its slot."""
    head, tail = frame.split(SLOT)
    return f"{_quoted(head)} + {before}m['content'] + {_quoted(tail)}"
