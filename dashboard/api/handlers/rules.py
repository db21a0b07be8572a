"""The rules of an organisation."""

import msgspec
from msgspec import UNSET

from dashboard import edits, records
from dashboard.api import answer_bodies as answers
from dashboard.api import request_bodies as bodies
from dashboard.api.calls import Answer, Call, record_of, same_name
from dashboard.rule_guard import keeping_guard
from shared.organisation import Org, Rule
from shared.rules import problems_of


def list_all(call: Call) -> Answer:
    """All of them, as they stand."""
    return _rules(call.read())


def set_all(call: Call) -> Answer:
    """All at once."""
    body: bodies.RulesPut = call.body
    rules = record_of(tuple(_said(rule, rule.name) for rule in body.rules), tuple[Rule, ...])
    edit = keeping_guard(edits.set_rules(rules), {rule.name for rule in body.rules if rule.recommended is UNSET})
    return _rules(call.edit(edit, f"set all rules, {len(rules)} now"))


def put(call: Call) -> Answer:
    """Add one, or replace the one of this name."""
    body: bodies.RulePut = call.body
    name = call.path["rule"]
    same_name(body.name, name)
    rule = record_of(_said(body, name), Rule)
    edit = keeping_guard(edits.put_rule(rule), {name} if body.recommended is UNSET else ())
    return _rule(call.edit(edit, f"set rule {name}"), name)


def switch(call: Call) -> Answer:
    """Apply it, or pass it over."""
    body: bodies.Switch = call.body
    name = call.path["rule"]
    action = f"{'enable' if body.enabled else 'disable'} rule {name}"
    return _rule(call.edit(edits.switch_rule(name, enabled=body.enabled), action), name)


def remove(call: Call) -> Answer:
    """It is gone."""
    name = call.path["rule"]
    return Answer(version=call.edit(edits.remove_rule(name), f"remove rule {name}").version)


def explain(call: Call) -> Answer:
    """What would happen to a request."""
    asked: bodies.RuleQuestion = call.body
    org = call.read()
    found = records.rule_test(org, feature=asked.feature, task=asked.task, provider=asked.provider, model=asked.model)
    return Answer(bodies.converted(found, answers.RuleTest), org.version)


def _said(wanted: bodies.RuleWanted, name: str) -> bodies.RuleWanted:
    """With all that is not said as it is without an earlier rule."""
    return msgspec.structs.replace(wanted, name=name, recommended=wanted.recommended is True)


def _rules(org: Org) -> Answer:
    rules = bodies.converted(org.rules, tuple[bodies.Rule, ...])
    return Answer(answers.Rules(rules=rules, warnings=tuple(problems_of(org.rules).warnings)), org.version)


def _rule(org: Org, name: str) -> Answer:
    rule = bodies.converted(edits.named(org.rules, name, "rule", org), bodies.Rule)
    return Answer(answers.ChangedRule(rule=rule, warnings=tuple(problems_of(org.rules).warnings)), org.version)
