"""How turns become text: one template per student, used for training and evaluation alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from heed.core.component import component
from heed.core.errors import ConfigError, DataError, Mistake
from heed.core.identity import Incidental
from heed.core.types import Message, Rendered, Span

SLOT = "{content}"


@component
class Template:
    r"""Pieces of text around each turn, `{content}` standing for what was said.

    The assistant's turn is `assistant` (its header) + content + `end_of_turn`; supervised are the
    content and the end of turn, so that the student learns to stop.

    Example:
        >>> t = Template(name="toy", begin="", system="{content}\n", user="Q: {content}\n",
        ...              assistant="A: ", end_of_turn="<end>", between="\n")
        >>> r = t.render([Message("user", "hi"), Message("assistant", "hello")])
        >>> r.text
        'Q: hi\nA: hello<end>'
        >>> [r.text[a:b] for a, b in r.supervised]
        ['hello<end>']
        >>> t.prompt("hi")
        'Q: hi\nA: '
    """

    name: Annotated[str, Incidental]
    """How the template is called."""

    begin: str
    """What stands before everything, a beginning-of-text token; empty if the student has none."""

    system: str
    """A system turn, with one `{content}`."""

    user: str
    """A user turn, with one `{content}`."""

    assistant: str
    """Header of an assistant turn; the response follows."""

    end_of_turn: str
    """The token that ends an assistant turn; must be a single token of the student."""

    between: str
    """What stands between the end of an assistant turn and a further turn."""

    def __post_init__(self) -> None:
        for name in ("system", "user"):
            text = getattr(self, name)
            if text.count(SLOT) != 1:
                raise ConfigError(
                    [Mistake(name, repr(text), f"needs exactly one {SLOT}.",
                             f"Write what was said as {SLOT}.")]
                )  # fmt: skip
        if not self.end_of_turn:
            raise ConfigError(
                [Mistake("end_of_turn", "''", "a student that never sees an end never stops.",
                         "Name the token that ends a turn.")]
            )  # fmt: skip

    def render(self, messages: Sequence[Message]) -> Rendered:
        """The whole conversation as text, with the spans that are supervised.

        Raises:
            DataError: a conversation without an assistant turn at its end.
        """
        if len(messages) == 1 and messages[0].role == "text":
            text = self.begin + messages[0].content + self.end_of_turn
            return Rendered(text, (Span(len(self.begin), len(text)),))
        if not messages or messages[-1].role != "assistant":
            roles = ", ".join(m.role for m in messages) or "no turn at all"
            raise DataError(
                f"a training conversation must end with the assistant's turn; found {roles}. "
                f"There would be nothing to learn. Drop the row or name the response column."
            )
        text, spans = self.begin, []
        for index, message in enumerate(messages):
            if message.role == "assistant":
                text += self.assistant
                spans.append(Span(len(text), len(text + message.content + self.end_of_turn)))
                text += message.content + self.end_of_turn
                text += self.between if index + 1 < len(messages) else ""
            else:
                text += self._turn(message)
        return Rendered(text, tuple(spans))

    def prompt(self, instruction: str) -> str:
        """One user turn, up to where the assistant's answer begins."""
        return self.prompt_of([Message("user", instruction)])

    def prompt_of(self, messages: Sequence[Message]) -> str:
        r"""A conversation so far, up to where the assistant's next answer begins.

        Raises:
            DataError: the assistant has spoken last, or nobody has.

        Example:
            >>> t = Template(name="toy", begin="", system="{content}\n", user="Q: {content}\n",
            ...              assistant="A: ", end_of_turn="<end>", between="\n")
            >>> t.prompt_of([Message("user", "1"), Message("assistant", "2"), Message("user", "3")])
            'Q: 1\nA: 2<end>\nQ: 3\nA: '
        """
        if not messages or messages[-1].role == "assistant":
            roles = ", ".join(m.role for m in messages) or "no turn at all"
            raise DataError(
                f"an answer must follow somebody else's turn; found {roles}. The student would "
                f"answer itself. Add the user's next turn."
            )
        opened = self.render([*messages, Message("assistant", "")]).text
        return opened.removesuffix(self.end_of_turn)

    def _turn(self, message: Message) -> str:
        if message.role not in ("system", "user"):
            raise DataError(f"a turn of role {message.role!r} cannot stand in a conversation.")
        frame = self.system if message.role == "system" else self.user
        return frame.replace(SLOT, message.content)

    def jinja(self) -> str:
        """The same template in the form that `transformers` saves beside a tokenizer."""

        def quoted(text: str) -> str:
            for plain, escaped in (("\\", r"\\"), ("'", r"\'"), ("\n", r"\n"), ("\r", r"\r")):
                text = text.replace(plain, escaped)
            return f"'{text}'"

        def framed(frame: str) -> str:
            head, tail = frame.split(SLOT)
            return f"{{{{ {quoted(head)} + m['content'] + {quoted(tail)} }}}}"

        said = f"{quoted(self.assistant)} + m['content'] + {quoted(self.end_of_turn)}"
        begin = f"{{{{ {quoted(self.begin)} }}}}" if self.begin else ""
        return (
            f"{begin}{{% for m in messages %}}"
            f"{{% if m['role'] == 'system' %}}{framed(self.system)}"
            f"{{% elif m['role'] == 'user' %}}{framed(self.user)}"
            f"{{% else %}}{{{{ {said} }}}}"
            f"{{% if not loop.last %}}{{{{ {quoted(self.between)} }}}}{{% endif %}}{{% endif %}}"
            "{% endfor %}"
            f"{{% if add_generation_prompt %}}{{{{ {quoted(self.assistant)} }}}}{{% endif %}}"
        )
