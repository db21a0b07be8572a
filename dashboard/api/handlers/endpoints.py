"""Where an organisation's requests go, and with what."""

from dashboard import edits
from dashboard.api import answer_bodies as answers
from dashboard.api import request_bodies as bodies
from dashboard.api.calls import Answer, Call, same_name
from shared.organisation import Org


def list_azure(call: Call) -> Answer:
    """All Azure resources."""
    org = call.read()
    return Answer(answers.AzureResources(azure=bodies.converted(org.azure, tuple[answers.Azure, ...])), org.version)


def put_azure(call: Call) -> Answer:
    """Add one, or replace the one of this name."""
    body: bodies.AzurePut = call.body
    name = call.path["resource"]
    same_name(body.name, name)
    edit = edits.set_azure(body.endpoint, body.api_version, name, body.deployments)
    org = call.edit(edit, f"set azure resource {name}")
    found = next(one for one in org.azure if one.name == name)
    return Answer(bodies.converted(found, answers.Azure), org.version)


def remove_azure(call: Call) -> Answer:
    """It is gone."""
    name = call.path["resource"]
    return Answer(version=call.edit(edits.remove_azure(name), f"remove azure resource {name}").version)


def list_base_urls(call: Call) -> Answer:
    """By provider."""
    org = call.read()
    return Answer(answers.BaseUrls(base_urls=org.base_urls), org.version)


def put_base_url(call: Call) -> Answer:
    """Send requests there."""
    body: bodies.BaseUrlPut = call.body
    provider = call.path["provider"]
    org = call.edit(edits.set_base_url(provider, body.url), f"set base URL of {provider}")
    return Answer(
        bodies.converted({"provider": provider, "url": org.base_urls[provider]}, answers.BaseUrl), org.version
    )


def remove_base_url(call: Call) -> Answer:
    """Send them where the installation does."""
    provider = call.path["provider"]
    return Answer(version=call.edit(edits.set_base_url(provider, None), f"remove base URL of {provider}").version)


def list_credentials(call: Call) -> Answer:
    """References by provider."""
    org = call.read()
    return Answer(answers.Credentials(credentials=org.credentials), org.version)


def put_credential(call: Call) -> Answer:
    """Say where the key is."""
    body: bodies.CredentialPut = call.body
    provider = call.path["provider"]
    org = call.edit(edits.set_credential(provider, body.reference), f"set credential of {provider}")
    return _credential(org, provider)


def remove_credential(call: Call) -> Answer:
    """There is none."""
    provider = call.path["provider"]
    return Answer(version=call.edit(edits.set_credential(provider, None), f"remove credential of {provider}").version)


def _credential(org: Org, provider: str) -> Answer:
    found = {"provider": provider, "reference": org.credentials[provider]}
    return Answer(bodies.converted(found, answers.Credential), org.version)
