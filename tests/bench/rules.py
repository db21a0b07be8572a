"""What finding a routing rule costs: us of CPU per look-up and ms of CPU to build, for usual and hostile sets of rules.

Run: `python -m tests.bench.rules`. Each question is made of text that nobody has hashed or compared yet, as it comes
from a request. The figure is the median over runs of ROUND questions.
"""

from collections.abc import Callable, Iterable, Iterator
from statistics import median
from time import thread_time_ns
from typing import Any, Final, NamedTuple

from shared.organisation import Provider, Rule, Target
from shared.rules import RuleTable

SIZES: Final = (0, 10, 1_000, 10_000)
ROUNDS: Final = 15
ROUND: Final = 2_000
BUILDS: Final = 5
PROVIDERS: Final[tuple[Provider, ...]] = ("openai", "anthropic", "groq", "gemini", "azure")
TASKS: Final = ("classification", "summarisation", "extraction", "generation", "reasoning")
MODELS: Final = ("gpt-5*", "gpt-5-mini", "claude-*", "claude-sonnet-5-5", "gemini-3*", "llama-3.3-70b-versatile")
CHAIN: Final = 255
"""How deep prefixes are nested: as long as a record lets them be."""
CHEAP: Final = Target(model="cheap")


class Question(NamedTuple):
    feature: str
    task: str
    provider: str
    model: str


class Mixture(NamedTuple):
    name: str
    rule: Callable[[int], Rule]
    """The rule with this number."""
    question: Callable[[int, int], Question]
    """The question with this number, to so many rules."""


def rule(
    number: int,
    *,
    feature: str | None = None,
    task: str | None = None,
    provider: Provider | None = None,
    model: str | None = None,
    recommended: bool = False,
) -> Rule:
    return Rule(
        name=f"r{number}",
        priority=number % 7,
        feature=feature,
        task=task,
        provider=provider,
        model=model,
        recommended=recommended,
        target=CHEAP,
    )


def chosen(number: int, model: str, *, every: int = 8) -> Rule:
    """A rule that sets one of the eight choices of feature, task and provider, to values that all questions have."""
    choice = number % every
    return rule(
        number,
        feature="f" if choice & 1 else None,
        task="reasoning" if choice & 2 else None,
        provider="openai" if choice & 4 else None,
        model=model,
        recommended=number % 3 == 0,
    )


def nested(number: int, letters: str = "abcdefghijklmnop") -> str:
    """Prefixes in chains of CHAIN, each within the one before."""
    return letters[number // CHAIN % len(letters)] * (number % CHAIN + 1)


MIXTURES: Final = (
    Mixture(
        "usual: a feature or a task, often a model",
        lambda n: rule(
            n,
            feature=f"feature-{n // 2}" if n % 4 else None,
            task=TASKS[n % 5] if n % 4 == 0 else None,
            model=MODELS[n % 6] if n % 3 else None,
            recommended=n % 10 == 0,
        ),
        lambda n, size: Question(f"feature-{n % (size or 1)}", TASKS[n % 5], PROVIDERS[n % 5], f"gpt-5-{n % 50}"),
    ),
    Mixture(
        "usual: nothing applies",
        lambda n: rule(n, feature=f"feature-{n}", model=MODELS[n % 6]),
        lambda n, _: Question(f"other-{n}", "", "openai", f"gpt-4o-{n % 9}"),
    ),
    Mixture(
        "only features",
        lambda n: rule(n, feature=f"feature-{n}"),
        lambda n, size: Question(f"feature-{n % (size or 1)}", "generation", "openai", "gpt-5"),
    ),
    Mixture(
        "only exact models, all questions new names",
        lambda n: rule(n, model=f"model-{n:05}"),
        lambda n, _: Question("untagged", "", "openai", f"model-{n:05}-{n * 7919}"),
    ),
    Mixture(
        "nested prefixes, deepest first",
        lambda n: rule(n, model=nested(n) + "*"),
        lambda n, _: Question("untagged", "", "openai", nested(n * 7919)),
    ),
    Mixture(
        "nested prefixes in all eight choices",
        lambda n: chosen(n, nested(n // 8) + "*"),
        lambda n, _: Question("f", "reasoning", "openai", nested(n * 7919 % 1300)),
    ),
    Mixture(
        "all eight choices, nothing applies",
        lambda n: chosen(n, f"model-{n:05}x*"),
        lambda n, _: Question("f", "reasoning", "openai", f"model-{n % 10_000:05}"),
    ),
    Mixture(
        "all wildcards",
        lambda n: rule(n, model="*" if n % 2 else None, recommended=n % 2 == 0),
        lambda n, _: Question("f", TASKS[n % 5], "openai", f"gpt-{n}"),
    ),
    Mixture(
        "all different, everything set",
        lambda n: rule(n, feature=f"f{n}", task=f"t{n}", provider=PROVIDERS[n % 5], model=f"m{n}*"),
        lambda n, size: Question(
            f"f{n % (size or 1)}", f"t{n % (size or 1)}", PROVIDERS[n % (size or 1) % 5], f"m{n % (size or 1)}-1"
        ),
    ),
    Mixture(
        "as long as may be, wide characters",
        lambda n: chosen(n, "x" * 249 + f"{n // 8:05}\u00e9*"),
        lambda n, _: Question("\u4e2d" * 341, "\u4e2d" * 341, "openai", "x" * 249 + f"{n % 1250:05}\U0001f600" * 100),
    ),
)


def fresh(question: Question) -> Question:
    """The same text in strings of their own: their hashes are not known."""
    return Question(*(text.encode().decode() for text in question))


def lookup_us(table: RuleTable, mixture: Mixture, size: int) -> float:
    """Median CPU us of a look-up, the loop around it included."""
    means = []
    for number in range(ROUNDS):
        questions = [fresh(mixture.question(number * ROUND + n, size)) for n in range(ROUND)]
        find = table.find
        started_ns = thread_time_ns()
        for feature, task, provider, model in questions:
            find(feature, task, provider, model)
        means.append((thread_time_ns() - started_ns) / ROUND / 1_000)
    return median(means)


def build_ms(rules: list[Rule]) -> float:
    """Median CPU ms of building the table."""
    times = []
    for _ in range(BUILDS):
        started_ns = thread_time_ns()
        RuleTable(rules)
        times.append((thread_time_ns() - started_ns) / 1e6)
    return median(times)


def measure() -> Iterator[dict[str, Any]]:
    """Of each mixture: CPU us per look-up by number of rules, and ms to build the largest table."""
    for mixture in MIXTURES:
        figures, built_ms = [], 0.0
        for size in SIZES:
            rules = [mixture.rule(number) for number in range(size)]
            built_ms = build_ms(rules)
            figures.append(lookup_us(RuleTable(rules), mixture, size))
        yield {"mixture": mixture.name, "lookup_us": figures, "build_ms": built_ms}


def show(rows: Iterable[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'CPU us per look-up, with so many rules':46}" + "".join(f"{size:>8,}" for size in SIZES) + "   build ms")
    for row in rows:
        figures = "".join(f"{figure:8.2f}" for figure in row["lookup_us"])
        print(f"{row['mixture']:46}{figures}{row['build_ms']:11.1f}", flush=True)


def main() -> None:
    """Measure and print."""
    show(measure())


if __name__ == "__main__":
    main()
