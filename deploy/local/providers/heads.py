"""Response headers of each provider: names, case, order and duplicates as seen on real answers.

In: route and request number. Out: an ordered list. Never: framing headers, which belong to delivery.
"""

from deploy.local.providers.call import Headers
from deploy.local.providers.routing import Route

COOKIES: Headers = (
    ("Set-Cookie", "__cf_bm=mock-bm; path=/; HttpOnly; Secure; SameSite=None"),
    ("Set-Cookie", "_cfuvid=mock-uvid; path=/; HttpOnly; Secure; SameSite=None"),
)
OPENAI_LIMITS: Headers = (
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "1999900"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-reset-tokens", "6m0s"),
)


def response_headers(route: Route, sequence: int) -> Headers:
    """Return the provider's end-to-end headers without content-type and framing."""
    number = f"{sequence:08d}"
    if route.provider == "anthropic":
        return _anthropic(number, native=route.native)
    if route.provider == "groq":
        return (
            ("cache-control", "private, max-age=0, no-store, no-cache, must-revalidate"),
            ("vary", "Origin"),
            ("x-groq-region", "dls"),
            *OPENAI_LIMITS[:5],
            ("x-ratelimit-reset-tokens", "17.399999999s"),
            ("x-request-id", f"req_mock{number}"),
            ("via", "1.1 google"),
            ("alt-svc", 'h3=":443"; ma=86400'),
            ("cf-cache-status", "DYNAMIC"),
            COOKIES[0],
            ("Server", "cloudflare"),
            ("CF-RAY", f"mock{number}-FRA"),
        )
    if route.provider == "gemini":
        return (
            ("Vary", "Origin"),
            ("Vary", "X-Origin"),
            ("Vary", "Referer"),
            ("Server", "scaffolding on HTTPServer2"),
            ("X-XSS-Protection", "0"),
            ("X-Frame-Options", "SAMEORIGIN"),
            ("X-Content-Type-Options", "nosniff"),
            ("Server-Timing", "gfet4t7; dur=812"),
            ("Alt-Svc", 'h3=":443"; ma=2592000,h3-29=":443"; ma=2592000'),
        )
    if route.provider == "azure":
        return _azure(number, deployment=route.model)
    return _openai(number)


def _openai(number: str) -> Headers:
    return (
        ("access-control-expose-headers", "X-Request-ID"),
        ("openai-organization", "org-mock"),
        ("openai-processing-ms", "311"),
        ("openai-project", "proj_mock"),
        ("openai-version", "2020-10-01"),
        ("x-envoy-upstream-service-time", "330"),
        *OPENAI_LIMITS,
        ("x-request-id", f"req_mock{number}"),
        ("x-openai-proxy-wasm", "v0.1"),
        ("cf-cache-status", "DYNAMIC"),
        *COOKIES,
        ("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload"),
        ("X-Content-Type-Options", "nosniff"),
        ("access-control-expose-headers", "CF-Ray"),
        ("Server", "cloudflare"),
        ("CF-RAY", f"mock{number}-FRA"),
        ("alt-svc", 'h3=":443"; ma=86400'),
    )


def _anthropic(number: str, *, native: bool) -> Headers:
    limits: list[tuple[str, str]] = []
    for kind, limit in (("requests", 4000), ("tokens", 4000000), ("input-tokens", 2000000), ("output-tokens", 400000)):
        limits += [
            (f"anthropic-ratelimit-{kind}-limit", str(limit)),
            (f"anthropic-ratelimit-{kind}-remaining", str(limit - 1)),
            (f"anthropic-ratelimit-{kind}-reset", "2026-11-23T12:00:00Z"),
        ]
    layer: Headers = () if native else (("openai-version", "2020-10-01"), ("openai-processing-ms", ""), *OPENAI_LIMITS)
    return (
        ("Server", "cloudflare"),
        ("X-Robots-Tag", "none"),
        *limits,
        *layer,
        ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
        ("request-id", f"req_mock{number}"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("traceresponse", "00-00000000000000000000000000000001-0000000000000001-01"),
        ("server-timing", "x-originResponse;dur=412"),
        ("vary", "Accept-Encoding"),
        ("set-cookie", "_cfuvid=mock-uvid; HttpOnly; SameSite=None; Secure; Path=/"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("via", "1.1 google"),
        ("cf-cache-status", "DYNAMIC"),
        ("CF-RAY", f"mock{number}-FRA"),
    )


def _azure(number: str, *, deployment: str) -> Headers:
    return (
        ("apim-request-id", f"apim-mock{number}"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("x-content-type-options", "nosniff"),
        ("x-ms-region", "Sweden Central"),
        ("x-ratelimit-remaining-requests", "99"),
        ("x-ratelimit-limit-requests", "100"),
        ("x-ratelimit-remaining-tokens", "99900"),
        ("x-ratelimit-limit-tokens", "100000"),
        ("x-ratelimit-reset-requests", "10"),
        ("x-ratelimit-reset-tokens", "1"),
        ("azureml-model-session", "d-mock"),
        ("cmp-upstream-response-duration", "230"),
        ("x-accel-buffering", "no"),
        ("x-ms-rai-invoked", "true"),
        ("X-Request-ID", f"mock{number}"),
        ("x-ms-client-request-id", f"mock-client-{number}"),
        ("x-ms-deployment-name", _header_safe(deployment or "mock")),
    )


def _header_safe(text: str) -> str:
    return "".join(character for character in text if character.isascii() and character.isprintable())
