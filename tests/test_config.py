"""geofence.toml is read whole or not at all, and what is wrong in it is named by line and key."""

import dataclasses
import os
from pathlib import Path

import pytest

from geofence.config import (
    Config,
    FetchLimits,
    StoreLimits,
    fence_of_countries,
    load,
    normal_countries,
    parse,
)
from geofence.errors import ConfigError, UsageError
from geofence.model import Family, Fence, Limits

PATH = Path("geofence.toml")
WHOLE = """\
# A comment
[judge]
max_removed_percent = 20

[fetch]
proxy = "http://proxy.example:3128"
attempts = 2

[store]
keep_generations = 3

[fence.JP]
countries = ["JP"]

[fence.ASIA-1]
countries = ["tw", "KR", "JP", "KR"]
source = "plain"
origins = ["asia.txt", "https://mirror.example/asia6.txt"]
families = ["inet6", "inet", "inet6"]
must_allow = ["192.0.2.7", "2001:db8::7"]
must_not_allow = ["198.51.100.7"]

[fence.ASIA-1.judge]
max_added_percent = 50.5
"""


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(text, PATH)
    assert refused.value.status == 78
    assert "nothing was changed" in refused.value.cure
    return refused.value.what


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "geofence.toml"
    path.write_text(WHOLE)
    path.chmod(0o644)
    return path


def test_a_whole_file_is_read():
    limits = Limits(max_removed_percent=20)
    assert parse(WHOLE, PATH) == Config(
        path=PATH,
        limits=limits,
        fetch=FetchLimits(proxy="http://proxy.example:3128", attempts=2),
        store=StoreLimits(keep_generations=3),
        fences=(
            Fence(name="JP", countries=("JP",), limits=limits),
            Fence(
                name="ASIA-1",
                countries=("JP", "KR", "TW"),
                source="plain",
                origins=("asia.txt", "https://mirror.example/asia6.txt"),
                families=(Family.INET6, Family.INET),
                must_allow=("192.0.2.7", "2001:db8::7"),
                must_not_allow=("198.51.100.7",),
                limits=dataclasses.replace(limits, max_added_percent=50.5),
            ),
        ),
    )


def test_an_empty_file_has_every_default():
    config = parse("", PATH)
    assert config == Config(path=PATH)
    assert (config.store.keep_generations, config.fetch.max_cache_age_days) == (8, 35)


def test_a_fences_own_limits_replace_those_alone_that_they_name():
    text = '[fence.JP]\ncountries = ["JP"]\njudge = { max_backdate_days = 0 }\n'
    (fence,) = parse(f"{text}[judge]\nmax_bogon_percent = 3\n", PATH).fences
    assert fence.limits == Limits(max_bogon_percent=3, max_backdate_days=0)


JP = '[fence.JP]\ncountries = ["JP"]\n'

UNKNOWN = {
    "fence": ('[fence.JP]\ncountries = ["JP"]\ncontries = []\n',
              "3: fence.JP.contries: unknown key; did you mean countries?"),
    "table": ("[fences.JP]\n", "1: fences: unknown key; did you mean fence?"),
    "top": ("\nkeep = 3\n", "2: keep: unknown key; known: trusted, on_missing, fence, judge,"
                " fetch, store"),
    "judge": ("[judge]\nmax_removed = 3\n",
              "2: judge.max_removed: unknown key; did you mean max_removed_percent?"),
    "fetch": ("[fetch]\ndeadline = 3\n",
              "2: fetch.deadline: unknown key; did you mean deadline_seconds?"),
    "store": ("[store]\nkeep = 3\n", "2: store.keep: unknown key; known: keep_generations"),
    "own-judge": (f"{JP}[fence.JP.judge]\nmax_bogons_percent = 1\n",
                  "4: fence.JP.judge.max_bogons_percent: unknown key; did you mean"
                  " max_bogon_percent?"),
    "inline": ("judge = { max_added = 3 }\n",
               "1: judge.max_added: unknown key; did you mean max_added_percent?"),
    "second-fence": (f"{JP}source = 'rir'\n\n[fence.KR]\ncountries = ['KR']\nsorce = 'rir'\n",
                     "7: fence.KR.sorce: unknown key; did you mean source?"),
    "no-line": ('"a:b" = 3\n', " a:b: unknown key; known: trusted, on_missing, fence, judge,"
                " fetch, store"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "says"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_key_is_named_with_its_line_and_what_may_be_meant(text, says):
    assert complaint(text) == f"geofence.toml:{says}"


WRONG = {
    "text-for-list": ('[fence.JP]\ncountries = "JP"\n',
                      "2: fence.JP.countries: Expected `array`, got `str`"),
    "number-in-list": ('[fence.JP]\ncountries = ["JP", 3]\n',
                       "2: fence.JP.countries[1]: Expected `str`, got `int`"),
    "second-fence": (f"{JP}[fence.KR]\ncountries = 3\n",
                     "4: fence.KR.countries: Expected `array`, got `int`"),
    "unknown-family": (f'{JP}families = ["inet7"]\n',
                       "3: fence.JP.families[0]: Invalid enum value 'inet7'; known: 'inet',"
                       " 'inet6'"),
    "unknown-style": (f'{JP}style = "Gate"\n',
                      "3: fence.JP.style: Invalid enum value 'Gate'; known: 'gate', 'allow'"),
    "unknown-on-missing": ('on_missing = "shut"\n',
                           "1: on_missing: Invalid enum value 'shut'; known: 'bundled',"
                           " 'trusted-only', 'open'"),
    "own-on-missing": (f'{JP}on_missing = "shut"\n',
                       "3: fence.JP.on_missing: Invalid enum value 'shut'; known: 'bundled',"
                       " 'trusted-only', 'open'"),
    "gate-with-target": (f'{JP}target = "X"\n',
                         "3: fence.JP.target: only style allow has a target"),
    "allow-without-target": (f'{JP}style = "allow"\n',
                             "1: fence.JP.target: style allow needs the name of the chain that its"
                             " members go to, and '' is none"),
    **{
        f"allow-to-{target}": (
            f'{JP}style = "allow"\ntarget = "{target}"\n',
            f"4: fence.JP.target: {target} cannot let members in: name a chain of yours that"
            " accepts, or ACCEPT",
        )
        for target in ("DROP", "RETURN", "INPUT", "ALLOW-JP-INPUT")
    },
    "position": (f"{JP}position = 0\n",
                 "3: fence.JP.position: 0 is out of range; the first rule is 1"),
    "forward-inside": (f'{JP}forward = "FORWARD"\n',
                       '1: fence.JP.outside: name the outside interface, as in ["eth0"]'),
    "outside-alone": (f'{JP}outside = ["eth0"]\n',
                      "3: fence.JP.outside: is about forwarded traffic, and forward is not set"),
    "trusted": ('trusted = ["203.0.113.7/24"]\n', "1: trusted: '203.0.113.7/24' has host bits set"),
    "trusts-half-the-world": ('trusted = ["0.0.0.0/1"]\n',
                              "1: trusted: '0.0.0.0/1' would trust half the world: at least /8"),
    "text-for-number": ('\n[judge]\n\nmax_removed_percent = "15"\n',
                        "4: judge.max_removed_percent: Expected `float`, got `str`"),
    "own-judge": (f'{JP}[fence.JP.judge]\nmax_removed_percent = "15"\n',
                  "4: fence.JP.judge.max_removed_percent: Expected `float`, got `str`"),
    "truth-for-number": ("[fetch]\nattempts = true\n",
                         "2: fetch.attempts: Expected `int`, got `bool`"),
    "fraction-for-count": ("[store]\nkeep_generations = 2.5\n",
                           "2: store.keep_generations: Expected `int`, got `float`"),
    "number-for-table": ("fence = 3\n", "1: fence: Expected `object`, got `int`"),
    "number-for-fence": ("[fence]\nJP = 3\n", "2: fence.JP: Expected `object`, got `int`"),
    "list-of-fences": ("[[fence]]\n", "1: fence: Expected `object`, got `array`"),
    "no-countries": ("[fence.JP]\n",
                     "1: fence.JP: Object missing required field `countries`"),
    "empty-countries": ("[fence.JP]\ncountries = []\n", "2: fence.JP.countries: empty"),
    "not-a-country": (f'{JP}[fence.ASIA]\ncountries = ["JP", "KOR"]\n',
                      "4: fence.ASIA.countries: 'KOR' is no country code of two letters"
                      " (ISO 3166-1 alpha-2)"),
    "must-allow": (f'{JP}must_allow = ["192.0.2.7", "192.0.2.0/24"]\n',
                   "3: fence.JP.must_allow: '192.0.2.0/24' is not an IPv4 or IPv6 address"),
    "must-not-allow": (f'{JP}must_not_allow = ["example.net"]\n',
                       "3: fence.JP.must_not_allow: 'example.net' is not an IPv4 or IPv6 address"),
    "negative": ("[judge]\nmax_added_percent = -1\n",
                 "2: judge.max_added_percent: -1.0 is out of range"),
    "own-negative": (f"{JP}[fence.JP.judge]\nmax_backdate_days = -1\n",
                     "4: fence.JP.judge.max_backdate_days: -1 is out of range"),
    "zero-attempts": ("[fetch]\nattempts = 0\n", "2: fetch.attempts: 0 is out of range"),
    "zero-seconds": ("[fetch]\ndeadline_seconds = 0.0\n",
                     "2: fetch.deadline_seconds: 0.0 is out of range"),
    "zero-kept": ("[store]\nkeep_generations = 0\n",
                  "2: store.keep_generations: 0 is out of range"),
    "endless": ("[fetch]\nread_timeout_seconds = inf\n",
                "2: fetch.read_timeout_seconds: inf is out of range"),
    "no-number": ("[judge]\nmax_bogon_percent = nan\n",
                  "2: judge.max_bogon_percent: nan is out of range"),
    "dotted": ("fence.JP.countries = []\n", "1: fence.JP.countries: empty"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_named_with_its_key_and_line(text, says):
    assert complaint(text) == f"geofence.toml:{says}"


def test_limits_that_may_be_zero_may_be_zero():
    zero = parse("[judge]\nmax_bogon_percent = 0\n[fetch]\nchecksum_pause_seconds = 0\n", PATH)
    assert (zero.limits.max_bogon_percent, zero.fetch.checksum_pause_seconds) == (0, 0)


@pytest.mark.parametrize(
    ("text", "where"),
    [("[fence.JP\n", "line 1"), ("\n\nx = \n", "line 3"), ("[judge]\n[judge]\n", "line 2")],
)
def test_what_is_no_toml_is_named_by_its_line(text, where):
    assert complaint(text).startswith("geofence.toml: ")
    assert where in complaint(text)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("J", True),
        ("ABCDEFGHIJK", True),
        ("A-1", True),
        ("ABCDEFGHIJKL", False),
        ("jp", False),
        ("Jp", False),
        ("1A", False),
        ("-A", False),
        ("JP_1", False),
        ('"J P"', False),
        ('"J\\n"', False),
        ('"\N{LATIN CAPITAL LETTER A WITH DIAERESIS}"', False),
        ('""', False),
    ],
)
def test_a_fences_name_fits_the_name_of_a_set(name, good):
    text = f'[fence.{name}]\ncountries = ["JP"]\n'
    if good:
        assert [fence.name for fence in parse(text, PATH).fences] == [name]
        assert len(f"geofence-{name}-inet6-next") <= 31
    else:
        assert "a fence's name is a capital letter and up to ten of A-Z, 0-9 and -" in complaint(
            text
        )


@pytest.mark.parametrize(
    ("codes", "countries"),
    [
        (["JP"], ("JP",)),
        (["jp", "JP"], ("JP",)),
        (["US", "jp"], ("JP", "US")),
        (["uk"], ("GB",)),
        (["UK", "GB"], ("GB",)),
    ],
)
def test_countries_are_in_order_each_once_and_uk_is_gb(codes, countries):
    assert normal_countries(codes) == countries


@pytest.mark.parametrize(
    "code", ["", "J", "JPN", "J1", "J ", "..", "\N{LATIN SMALL LETTER SHARP S}"]
)
def test_what_is_no_country_code_is_refused(code):
    with pytest.raises(ValueError, match="is no country code of two letters"):
        normal_countries(["JP", code])
    with pytest.raises(UsageError, match=r"--country: .* is no country code") as refused:
        fence_of_countries([code], Config())
    assert refused.value.status == 2


def test_countries_of_the_command_line_are_one_fence_named_by_their_codes():
    limits = Limits(max_added_percent=1)
    assert fence_of_countries(["us", "JP"], Config(limits=limits)) == Fence(
        name="JP-US", countries=("JP", "US"), limits=limits
    )
    assert fence_of_countries(["UK"], Config()).name == "GB"
    assert fence_of_countries(["DE", "JP", "KR", "US"], Config()).name == "DE-JP-KR-US"


def test_too_many_countries_for_a_name_are_a_matter_for_the_configuration():
    with pytest.raises(UsageError, match="DE-FR-JP-KR-US is longer than 11") as refused:
        fence_of_countries(["US", "KR", "JP", "DE", "FR", "de"], Config(path=PATH))
    assert refused.value.status == 2
    assert (
        "geofence.toml: [fence.NAME] countries = ['DE', 'FR', 'JP', 'KR', 'US']"
        in refused.value.cure
    )


def test_a_configured_fence_of_that_name_is_the_one():
    config = parse(f'{JP}source = "plain"\norigins = ["jp.txt"]\n', PATH)
    assert fence_of_countries(["jp"], config) is config.fences[0]
    assert fence_of_countries(["KR"], config).source == "rir"


def test_a_configured_fence_of_that_name_and_other_countries_is_a_contradiction():
    config = parse('[fence.JP]\ncountries = ["JP", "KR"]\n', PATH)
    with pytest.raises(ConfigError, match="fence JP holds JP KR, and --country asks for JP") as no:
        fence_of_countries(["JP"], config)
    assert no.value.status == 78


def test_a_file_is_loaded(file):
    assert load(file) == parse(WHOLE, file)


def test_no_default_file_is_no_error():
    assert load(None) == Config()


def test_the_default_file_is_read_if_it_is_there(file, monkeypatch):
    monkeypatch.setattr("geofence.config.DEFAULT_PATH", file)
    assert load(None).path == file


def test_no_named_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.toml: no such file") as refused:
        load(tmp_path / "missing.toml")
    assert (refused.value.status, refused.value.cure) == (78, "check --config")


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["no-text", "directory"])
def test_what_cannot_be_read_is_an_error(tmp_path, content):
    path = tmp_path / "geofence.toml"
    if content is None:
        path.mkdir(mode=0o755)
    else:
        path.write_bytes(content)
        path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"geofence\.toml: cannot be read"):
        load(path)


@pytest.mark.parametrize("mode", [0o646, 0o602, 0o777])
def test_a_file_that_anybody_may_write_is_refused(file, mode):
    file.chmod(mode)
    with pytest.raises(ConfigError, match="others than root may write it") as refused:
        load(file)
    assert f"chmod go-w {file}" in refused.value.cure


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
@pytest.mark.parametrize(
    ("uid", "gid", "mode", "good"),
    [
        (0, 0, 0o640, True),
        (0, 0, 0o660, True),
        (0, 65534, 0o640, True),
        (0, 65534, 0o660, False),
        (65534, 0, 0o600, False),
    ],
)
def test_a_file_that_somebody_else_may_write_is_refused(file, uid, gid, mode, good):
    os.chown(file, uid, gid)
    file.chmod(mode)
    if good:
        assert load(file).fences
    else:
        with pytest.raises(ConfigError, match="others than root may write it"):
            load(file)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(
            '[fence.JP]\ncountries = ["JP"]\nsource = "nope"\n',
            "geofence.toml:3: fence.JP.source: there is no source 'nope'; known: rir",
            id="unknown-source",
        ),
        pytest.param(
            '[fence.JP]\ncountries = ["JP"]\nsource = "plain"\n',
            "geofence.toml:1: fence.JP.origins: source plain has no address of its own",
            id="plain-from-nowhere",
        ),
        pytest.param(
            '[fetch]\nproxy = "ftp://proxy"\n',
            "geofence.toml:2: fetch.proxy: 'ftp://proxy' is not http://host:port",
            id="proxy",
        ),
    ],
)
def test_what_could_only_fail_at_the_update_is_refused_when_it_is_read(text, complaint):
    with pytest.raises(ConfigError) as refused:
        parse(text, Path("geofence.toml"))
    assert refused.value.what.startswith(complaint)
