"""A file that declares organisations: what it says, what is refused of it and how, and that nothing else can happen."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from dashboard.declared.faults import MOST_PROBLEMS, DeclarationFault
from dashboard.declared.file import declared_in
from dashboard.declared.records import Declared, document_of
from dashboard.declared.text import Form, parse
from dashboard.declared.values import TextFault
from shared.organisation import Org
from shared.registry import new_key
from tests.declared_orgs import ACME, ONE, TWO

FORMS: tuple[Form, ...] = ("yaml", "json", "toml")

YAML = f"""
# Comments are allowed.
orgs:
  acme:
    keys:
      - {{name: default, sha256: {ONE}}}
      - name: ci
        sha256: {TWO}
        limits: &slow {{requests_per_s: 0.5}}
    limits: *slow
    rules:
      - {{name: cheap, feature: chat, model: gpt-4o*, target: {{model: gpt-4o-mini}}, failover: [{{provider: groq}}]}}
    budgets:
      - {{name: month, limit_usd: 250.10}}
      - {{name: day, limit_usd: "0.1", period: day, action: block}}
      - {{name: whole, limit_usd: 7}}
    azure: [{{endpoint: https://acme.openai.azure.com/, api_version: 2024-10-21, deployments: {{gpt-4o: team}}}}]
    base_urls: {{openai: https://llm.example.com/v1/}}
    credentials: {{groq: env:GROQ_KEY}}
    prices: [{{provider: openai, model: gpt-4o, input_usd: 2.50, output_usd: 1e1}}]
    drain_features: ["*"]
    usage_features: [chat]
  123: {{enabled: false}}
"""
TOML = f"""
[orgs.acme]
drain_features = ["*"]
usage_features = ["chat"]
limits.requests_per_s = 0.5
base_urls.openai = "https://llm.example.com/v1/"
credentials.groq = "env:GROQ_KEY"
[[orgs.acme.keys]]
name = "default"
sha256 = "{ONE}"
[[orgs.acme.keys]]
name = "ci"
sha256 = "{TWO}"
limits = {{requests_per_s = 0.5}}
[[orgs.acme.rules]]
name = "cheap"
feature = "chat"
model = "gpt-4o*"
target = {{model = "gpt-4o-mini"}}
failover = [{{provider = "groq"}}]
[[orgs.acme.budgets]]
name = "month"
limit_usd = 250.10
[[orgs.acme.budgets]]
name = "day"
limit_usd = "0.1"
period = "day"
action = "block"
[[orgs.acme.budgets]]
name = "whole"
limit_usd = 7
[[orgs.acme.azure]]
endpoint = "https://acme.openai.azure.com/"
api_version = "2024-10-21"
deployments = {{gpt-4o = "team"}}
[[orgs.acme.prices]]
provider = "openai"
model = "gpt-4o"
input_usd = 2.50
output_usd = 1e1
# {"." * 200}
[orgs.123]
enabled = false
"""


def declared(text: str, path: str = "orgs.yaml") -> Declared:
    return declared_in(text.encode(), path)


def fault(text: str, path: str = "orgs.yaml") -> str:
    """The one line that refuses a text."""
    lines = faults(text, path)
    assert len(lines) == 1, lines
    return lines[0]


def faults(text: str, path: str = "orgs.yaml") -> list[str]:
    with pytest.raises(DeclarationFault) as refused:
        declared(text, path)
    lines = str(refused.value).splitlines()
    assert all(line.startswith(f"{path}: ") and line.isprintable() for line in lines)
    return lines


def of_acme(section: str) -> str:
    return f"orgs: {{acme: {section}}}"


@pytest.mark.parametrize("path", ["orgs.yaml", "ORGS.YML", "/etc/lectr/orgs.toml", "orgs.json", "-"])
def test_every_form_says_the_same(path: str) -> None:
    """YAML, TOML and JSON declare the same organisations; the ending of the name says which it is."""
    text = TOML if path.endswith("toml") else YAML
    if path in {"orgs.json", "-"}:
        text = json.dumps(parse(YAML.encode(), "yaml"), default=float)
    found = declared(text, path)
    assert found.orgs == (ACME, Org(org="123", version=0, enabled=False))
    assert found.warnings == ()


@pytest.mark.parametrize("path", ["orgs", "orgs.txt", "yaml", "orgs.yaml.bak", ""])
def test_another_ending_is_refused(path: str) -> None:
    """What a file is written in is not guessed."""
    assert fault("orgs: {}", path).endswith(
        "its name must end in .yaml, .yml, .json or .toml, which says how to read it"
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", ["0.1", "250.10", "0.300000000004", "123456789.123456789123", "1e-7", "5", "1e3"])
def test_money_is_what_was_written(form: Form, number: str) -> None:
    """An amount is kept digit by digit, whichever form it is written in, with quotes or without; 1e3 as 1000."""
    budget = {"yaml": "{{name: a, limit_usd: {}}}", "json": '{{"name": "a", "limit_usd": {}}}'}
    for amount in (number, f'"{number}"'):
        text = (
            f'[[orgs.acme.budgets]]\nname = "a"\nlimit_usd = {amount}\n'
            if form == "toml"
            else '{"orgs": {"acme": {"budgets": [' + budget[form].format(amount) + "]}}}"
        )
        [org] = declared(text, f"f.{form}").orgs
        assert str(org.budgets[0].limit_usd) == str(Decimal(f"{Decimal(number):f}"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("no", "no"),
        ("on", "on"),
        ("2024-10-21", "2024-10-21"),
        ("1:30", "1:30"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ("010", 10),
        ("true", True),
        ("~", None),
        ("", None),
        ("1e3", Decimal(1000)),
        (".5", Decimal("0.5")),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_yaml_is_read_by_its_newer_rules(text: str, meant: Any) -> None:
    """Only what looks like a number, true, false or null is one: `no` is not false, 010 not eight, a date text."""
    assert parse(f"a: {text}".encode(), "yaml") == {"a": meant}


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("", "f.yaml", "it is empty: begin with `orgs:`"),
        ("# nothing\n---\n", "f.yaml", "it is empty: begin with `orgs:`"),
        ("", "f.json", "no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("", "f.toml", "orgs: give a map of organisations by name"),
        ("orgs:", "f.yaml", "orgs: give a map of organisations by name"),
        ("orgs: []", "f.yaml", "orgs: give a map of organisations by name"),
        ("acme: {}", "f.yaml", "orgs: give a map of organisations by name"),
        ("orgs: {}\nother: 1", "f.yaml", "other: there is no such field; organisations stand under orgs"),
        ("orgs: {a: {}}\n---\norgs: {}", "f.yaml", "line 2: a second document begins: put all into one"),
        ("orgs: {a: {}}\norgs: {}", "f.yaml", "line 2: the key 'orgs' stands twice in one map: remove one of them"),
        ('{"orgs": {"a": {}, "a": {}}}', "f.json", "the key 'a' stands twice in one object: remove one of them"),
        ("[orgs.a]\n[orgs.a]", "f.toml", "no TOML: Cannot declare ('orgs', 'a') twice"),
        ("orgs:\n  a: [", "f.yaml", "no YAML: line 3: did not find expected node content"),
        ('{"orgs": ', "f.json", "no JSON: Expecting value"),
        ("orgs = ", "f.toml", "no TOML: Invalid value"),
        (
            "orgs: {a: !!python/object/apply:os.system [id]}",
            "f.yaml",
            "line 1: the tag tag:yaml.org,2002:python/object",
        ),
        ("a: &a {b: 1}\n<<: *a", "f.yaml", "line 2: maps are not merged with <<: write the fields out"),
        ("a: *nothing", "f.yaml", "line 1: the alias *nothing names nothing that stands before it"),
        ("a: &a [*a]", "f.yaml", "line 1: the alias *a names nothing that stands before it"),
        ("? [a]\n: 1", "f.yaml", "line 1: a key must be text"),
        ("? {a: 1}\n: 1", "f.yaml", "line 1: a key must be text"),
        ("a: \x01", "f.yaml", "no YAML: character 3: control characters are not allowed"),
        ("a: .inf", "f.yaml", "line 1: .inf is no number that can be kept: write a finite one"),
        ('{"a": NaN}', "f.json", "NaN is no number that can be kept: write a finite one"),
        ('{"a": 1e999999999999999999999}', "f.json", "1e999999999999999999999 is no number that can be kept"),
        ("a = inf", "f.toml", "inf is no number that can be kept: write a finite one"),
        (f"a: {'9' * 5000}", "f.yaml", f"line 1: a number of 5000 digits, {'9' * 40}...: write one that is shorter"),
        (f'{{"a": {"9" * 5000}}}', "f.json", f"a number of 5000 digits, {'9' * 40}...: write one that is shorter"),
        (f"a = {'9' * 5000}", "f.toml", "no TOML: "),
        ("[" * 100_000, "f.yaml", "line 1: nested more than 50 deep"),
        ("{a: " * 100_000, "f.yaml", "line 1: nested more than 50 deep"),
        ("- " * 100_000, "f.yaml", "line 1: nested more than 50 deep"),
        ("[" * 100_000, "f.json", "no JSON that can be read: it is nested too deep"),
        ("a = " + "[" * 100_000, "f.toml", "no TOML that can be read: it is nested too deep"),
        ("a." * 100_000 + "a = 1", "f.toml", "line 1: too many dots: a name has a few parts"),
        ("'='." * 100_000 + "a = 1", "f.toml", "line 1: too many dots: a name has a few parts"),
        ("\n[" + "a." * 100_000 + "a]", "f.toml", "line 2: too many dots: a name has a few parts"),
    ],
)
def test_text_that_is_refused(text: str, path: str, said: str) -> None:
    """What is no declaration at all, or would cost more than it says, is refused in one line, with the place."""
    assert fault(text, path).removeprefix(f"{path}: ").startswith(said)


def test_bytes_that_are_refused() -> None:
    """Other encodings are refused by the first byte that is wrong; a mark at the beginning is passed over."""
    assert declared_in("\ufefforgs: {}".encode(), "f.yaml").orgs == ()
    with pytest.raises(DeclarationFault, match=r"^f.yaml: byte 12 is not UTF-8: save the file as UTF-8$"):
        declared_in(b"orgs: {} # \xc3\xa9\xe9"[:-1].replace(b"\xc3\xa9", b"x\xe9"), "f.yaml")
    with pytest.raises(TextFault, match=r"^longer than 64 MiB, which is the most that is read$"):
        parse(bytes(64 * 2**20 + 1), "yaml")


def test_aliases_are_bounded() -> None:
    """An alias stands for what it names; lists of aliases of lists of aliases end before they are a billion values."""
    lines = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    text = "l0: &l0 [x, x, x, x, x, x, x, x, x]\n" + "\n".join(lines)
    assert "aliases stand for more than 100000 values: write them out" in fault(text)
    assert parse(b"a: &x {b: [1]}\nc: [*x, *x]", "yaml") == {"a": {"b": [1]}, "c": [{"b": [1]}, {"b": [1]}]}


SECRET = new_key()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("", "orgs.acme: give a map of its fields; of an organisation without any, {}"),
        ("[]", "orgs.acme: give a map of its fields; of an organisation without any, {}"),
        ("{org: acme}", "orgs.acme.org: there is no such field; there are enabled, keys, azure, "),
        ("{version: 1}", "orgs.acme.version: there is no such field; there are enabled, keys, azure, "),
        ("{enabled: yes}", "orgs.acme.enabled: expected true or false, got text"),
        ("{keys: {}}", "orgs.acme.keys: expected a list of at most 1000, got an object"),
        ("{keys: [{name: 5, sha256: x}]}", "orgs.acme.keys[0].name: expected 1-63 of A-Z a-z 0-9"),
        (
            "{keys: [{name: a}]}",
            "orgs.acme.keys[0].sha256: it is missing; give 64 digits of hex, the hash of a key and ",
        ),
        (
            f"{{keys: [{{name: a, sha256: {SECRET}}}]}}",
            "orgs.acme.keys[0].sha256: expected 64 digits of hex, the hash of",
        ),
        (f"{{keys: [{{name: a/b, sha256: {ONE}}}]}}", "orgs.acme.keys[0].name: expected 1-63 of A-Z a-z 0-9"),
        (f"{{{SECRET}: 1}}", "orgs.acme.lc_key_***: there is no such field"),
        (
            f"{{keys: [{{name: a, sha256: {ONE}}}, {{name: a, sha256: {TWO}}}]}}",
            "orgs.acme.keys: key 'a' stands 2 times: remove or rename all but one",
        ),
        (
            f"{{keys: [{{name: a, sha256: {ONE}}}, {{name: b, sha256: {ONE}}}]}}",
            "orgs.acme.keys[1].sha256: orgs.acme.keys[0] has the same: give each a key of its own, made with: key new",
        ),
        ("{limits: {requests_per_s: 0}}", "orgs.acme.limits.requests_per_s: expected a number above 0"),
        ("{limits: {requests_per_s: 1e999}}", "orgs.acme.limits.requests_per_s: expected a number above 0"),
        ("{limits: {requests: 1}}", "orgs.acme.limits.requests: there is no such field; there are requests_per_s, "),
        (
            "{limits: {burst_requests: 1.5}}",
            "orgs.acme.limits.burst_requests: expected a whole number from 1 to 1000000 or null, got a number with ",
        ),
        (
            "{rules: [{name: a, provider: x}]}",
            "orgs.acme.rules[0].provider: expected one of anthropic, azure, gemini, ",
        ),
        (
            "{rules: [{name: a, target: {modl: x}}]}",
            "orgs.acme.rules[0].target.modl: there is no such field; there are",
        ),
        ("{rules: [{name: a, model: a*b}]}", "orgs.acme.rules: rule 'a': model 'a*b' has a * before its end"),
        (
            "{rules: [{name: a, model: x}, {name: a, model: y}]}",
            "orgs.acme.rules: 2 rules are named 'a': rename all but one",
        ),
        ("{budgets: [{name: a, limit_usd: 0}]}", "orgs.acme.budgets: budget 'a': limit_usd 0 is no amount above 0"),
        (
            "{budgets: [{name: a, limit_usd: 'NaN'}]}",
            "orgs.acme.budgets: budget 'a': limit_usd NaN is no number; give US dollars",
        ),
        ("{budgets: [{name: a, limit_usd: x}]}", "orgs.acme.budgets[0].limit_usd: expected an amount of"),
        (
            "{budgets: [{name: a, limit_usd: true}]}",
            "orgs.acme.budgets[0].limit_usd: expected an amount of US dollars, like 250.00, got true or false",
        ),
        (
            "{budgets: [{name: a, limit_usd: 1, period: week}]}",
            "orgs.acme.budgets[0].period: expected one of day, month, got 'week'",
        ),
        (
            "{budgets: [{name: a, limit_usd: 1}, {name: a, limit_usd: 2}]}",
            "orgs.acme.budgets: budget 'a' stands 2 times: remove or rename all but one",
        ),
        (
            "{prices: [{provider: groq, model: x, input_usd: -1, output_usd: 1}]}",
            "orgs.acme.prices: price of groq/x: input_usd -1 is not within 0 to 1000000000",
        ),
        (
            "{prices: [&p {provider: groq, model: x, input_usd: 1, output_usd: 1}, *p]}",
            "orgs.acme.prices: price of groq/x: two of them have since_ms 0; leave one out",
        ),
        ("{azure: [{endpoint: x}]}", "orgs.acme.azure: azure endpoint: give scheme and host, like https://NAME"),
        ("{azure: [{endpoint: https://a.example/v1}]}", "orgs.acme.azure: azure endpoint: leave out the path '/v1'"),
        ("{azure: [{endpoint: https://a.example, api_version: v1}]}", "orgs.acme.azure: azure api-version 'v1'"),
        (
            "{azure: [{endpoint: https://a.example}, {endpoint: https://b.example}]}",
            "orgs.acme.azure: resource 'default' stands 2 times: remove or rename all but one",
        ),
        ("{base_urls: {azure: https://a.example}}", "orgs.acme.base_urls: base URL: azure has endpoints instead"),
        ("{base_urls: {x: https://a.example}}", "orgs.acme.base_urls: provider 'x': one of openai, anthropic, "),
        (
            "{base_urls: {groq: http://a.example}}",
            "orgs.acme.base_urls: base URL: http would send the key in the clear",
        ),
        ("{credentials: {groq: gsk_velvet}}", "orgs.acme.credentials: credential: give a reference, env:NAME or file:"),
        ("{drain_features: ['']}", "orgs.acme.drain_features: feature: give 1 to 1024 printable bytes"),
        (
            "{usage_features: [a, a]}",
            "orgs.acme.usage_features: feature 'a' stands 2 times: remove or rename all but one",
        ),
        (
            f"{{drain_features: {json.dumps([str(n) for n in range(101)])}}}",
            "orgs.acme.drain_features: feature: 100 features drain already; use * for all",
        ),
    ],
)
def test_organisations_that_are_refused(section: str, said: str) -> None:
    """Each fault names the file, the organisation, the field and the fix, in one line, and repeats no secret."""
    line = fault(of_acme(section))
    assert line.removeprefix("orgs.yaml: ").startswith(said)
    assert SECRET not in line
    assert "velvet" not in line


@pytest.mark.parametrize("name", ["Acme", "acme corp", "-acme", "a" * 64, "", "a'; DROP", "acmé", "a\x1b[31m"])
def test_names_that_are_refused(name: str) -> None:
    """The name of an organisation keeps to the rule of every other door, and is shown without harm."""
    line = fault(json.dumps({"orgs": {name: {}}}), "f.json")
    assert line.startswith("f.json: orgs: org name ")
    assert line.endswith("like 'acme' or 'acme-eu'")


@pytest.mark.parametrize("document", ['{"orgs": {"a": {"\\ud800": 1}}}', '{"orgs": {"a": [["\\uDFFF"]]}}', '"\\ud9ab"'])
def test_half_of_a_character_is_refused(document: str) -> None:
    """JSON can spell half of a character, which nothing can store; two halves are one character."""
    assert re.search(r"\\u[0-9a-f]{4} is half of a character: write the whole one$", fault(document, "f.json"))
    assert parse(b'["\\ud83d\\ude00", "\\\\ud800"]', "json") == ["\U0001f600", "\\ud800"]


def test_a_key_is_one_organisations() -> None:
    """The same hash in two organisations is refused: a gateway finds the organisation by it."""
    key = f"{{keys: [{{name: a, sha256: {ONE}}}]}}"
    line = fault(f"orgs: {{a: {key}, b.c: {key}}}")
    assert line.startswith("orgs.yaml: orgs['b.c'].keys[0].sha256: orgs.a.keys[0] has the same: give each a key of its")


def test_all_that_is_wrong_is_said_at_once() -> None:
    """One reading finds every fault of every organisation, up to a number, beyond which the rest is counted."""
    text = (
        "orgs: {Acme: {}, b: , c: {limits: {x: 1, body_bytes: 0}, usage_features: [a, a]}, d: {drain_features: [b, b]}}"
    )
    assert [line.split(": ")[1] for line in faults(text)] == [
        "orgs",
        "orgs.b",
        "orgs.c.limits.x",
        "orgs.c.limits.body_bytes",
        "orgs.d.drain_features",
    ]
    lines = faults(json.dumps({"orgs": {f"org-{n}": None for n in range(30)}}))
    assert len(lines) == MOST_PROBLEMS + 1
    assert lines[-1] == "orgs.yaml: and 10 problems more"


def test_what_may_not_be_meant_is_a_warning() -> None:
    """Rules that never apply are declared all the same, and said."""
    found = declared(of_acme("{rules: [{name: a, target: {model: x}}, {name: b, model: y, target: {model: z}}]}"))
    assert [rule.name for rule in found.orgs[0].rules] == ["a", "b"]
    assert [warning.split(": ")[:2] for warning in found.warnings] == [["orgs.yaml", "orgs.acme.rules"]]
    assert "rule 'b' never applies" in found.warnings[0]


def test_every_field_of_an_organisation_can_be_declared() -> None:
    """The declaration of a full record names each of its fields but name and version."""
    assert set(document_of([ACME])["orgs"]["acme"]) | {"org", "version"} == set(Org.__struct_fields__)
