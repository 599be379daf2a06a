"""audit.toml: every knob with its default, its unit and its source."""

import tomllib
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from byrote.errors import PlanError, did_you_mean
from byrote.rungs import RUNGS, WAYS

FORMAT = 1
STAGES = ("ingest", "dedupe", "prompts", "screen", "generate", "cliques", "match", "twin", "certify", "probe", "report")
Section = TypeVar("Section")
_OWN = ("the model's own", "that of its authors")


def _knob(default: Any, says: str, low: Any = None, high: float | None = None) -> Any:
    """Describe a knob: `low` and `high` bound a number; of a list of words, `low` holds those that it may take."""
    return field(default=default, metadata={"says": says, "low": low, "high": high})


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """Which model is audited and how it is held."""

    uri: str = _knob("", "diffusers:PATH_OR_HUB_ID, torchscript:FILE, recorded:FOLDER, ...: see `byrote models`")
    dtype: str = _knob("float32", "float32, float16 or bfloat16")
    device: str = _knob("cpu", "cpu, cuda, cuda:1, mps")
    threads: int = _knob(1, "CPU threads of one worker; part of the plan, since sums differ with it", 1)
    lora: tuple[str, ...] = _knob((), "LoRA files to lay over the model, like lora.safetensors@0.8")
    embeddings: tuple[str, ...] = _knob((), "textual inversions, like person.safetensors")
    revision: str = _knob("", "of a model of the hub: a branch, a tag or a commit")
    variant: str = _knob("", "of weights in a folder: fp16, bf16, non_ema")
    offload: str = _knob("", "what waits in main memory: model (parts, one by one) or sequential (layer by layer)")
    slicing: bool = _knob(False, "attention and autoencoder in slices: less memory, slower")
    compile: bool = _knob(False, "torch.compile the denoiser: minutes at first, then faster")
    trust: bool = _knob(False, "run code that comes with the model: it can do whatever you can; never for a stranger's")


@dataclass(frozen=True, slots=True)
class CorpusPlan:
    """Which pictures."""

    path: str = _knob("", "folder made by `byrote index`")
    near: float = _knob(
        0.01, "near-duplicates: largest RMS of 32 x 32 thumbnails; JPEG quality 50 alone moves a photo by .006", 0, 0.06
    )
    alike: float = _knob(
        3.0, "and those moved, turned or cropped: least evidence (log-odds) that one shows the other", -4
    )
    crop: float = _knob(0.8, "smallest share of an edge that a cropped copy keeps; 1 looks for no crops", 0.8, 1)
    descriptor: str = _knob(
        "", "a descriptor whose word counts too, like sscd:FILE; `byrote describe` must have described the corpus by it"
    )
    similar: float | None = _knob(None, "its threshold", 0)
    quick: bool = _knob(False, "look for no crops, and compare no thumbnails as they stand: much faster")


@dataclass(frozen=True, slots=True)
class PromptsPlan:
    """Who is asked."""

    top: int = _knob(100, "groups with the most copies", 0)
    random: int = _knob(100, "groups drawn from the rest", 0)
    controls: int = _knob(400, "control captions; the more, the fewer copies it takes to certify one", 0)
    seed: int = _knob(0, "of every draw, and of the starting noise of every sample", 0)


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """How they are asked: rungs from the least contrived to the most. Pictures and controls climb the same ladder."""

    rungs: tuple[str, ...] = _knob(("caption",), f"of {', '.join(RUNGS)}; the more, the more samples", RUNGS)
    none: int = _knob(4, "rung none: prompts without any text, of as many samples as the others", 1)
    users: str = _knob("", "rung users: a text file of ordinary users' prompts, one a line")
    texts: str = _knob(
        "", "your own wording: a CSV file with the columns caption, rung, text; built-in rules elsewhere"
    )


@dataclass(frozen=True, slots=True)
class ScreenPlan:
    """Who gets full samples: prompts of both sides alike, whose few and cheap first samples show something."""

    search: int = _knob(
        0,
        "cheap samples of a prompt until some come near; where some do, but at the edge, it gets as many as [generate] "
        "seeds; 0 screens nothing",
        0,
    )
    steps: int = _knob(5, "sampler steps of a cheap sample; a model that takes no steps is searched as it is", 1)
    score: str = _knob(
        "", "before any cheap sample: a score of `byrote screen`, like x0-agreement@2; auto for the model's; empty none"
    )
    noises: int = _knob(4, "noises of a prompt for the score; Webster 2023: 4", 1)
    keep: float = _knob(0.5, "share of the prompts of both sides together that the score lets on", 0, 1)
    pilot: int = _knob(40, "prompts on which the score must prove itself, or it is not used", 5)
    confirm: int = _knob(
        16, "full samples at most of a prompt that is kept, the noises that came nearest first, until some come near", 1
    )
    spare: float = _knob(
        0.05, "share of the others that gets up to all [generate] seeds, to tell what is missed", 0.001, 1
    )


@dataclass(frozen=True, slots=True)
class GeneratePlan:
    """What is asked of the model."""

    seeds: int = _knob(16, "samples for each prompt; Carlini et al. 2023 took 500", 1)
    steps: int | None = _knob(None, "sampler steps", 1)
    guidance: float | None = _knob(None, "guidance scale; 1 or less asks without guidance", 0)
    sampler: str | None = _knob(None, "ddim, dpm++2m, euler, ...")
    width: int | None = _knob(None, "pixels", 8)
    height: int | None = _knob(None, "pixels", 8)
    negative: str = _knob("", "negative prompt of every sample")
    batch: int = _knob(8, "samples made at once", 1)
    hashes: str = _knob("", "a list of MD5 and PDQ hashes: samples that it hits are not kept, only counted")


@dataclass(frozen=True, slots=True)
class CliquesPlan:
    """When samples of one prompt agree (Carlini et al. 2023, arXiv 2301.13188, section 4.2)."""

    tiles: int = _knob(4, "the distance is the worst of tiles x tiles tiles; the paper: 4 x 4", 1)
    within: float = _knob(0.1, "largest tiled RMS distance of an edge; the paper does not publish its own", 0, 1)
    least: int = _knob(2, "clique size that passes; the paper: 10 of 500, by hand; 1 lets every prompt pass", 1)
    seconds: float = _knob(
        1.0, "cap on the search for the largest clique of a prompt; 'is there one' is always exact", 0
    )
    template: float = _knob(
        0.0, "share of the tiles in which samples of a template agree, like 0.5; 0 looks for no templates", 0, 1
    )


@dataclass(frozen=True, slots=True)
class MatchPlan:
    """How a sample is held against the pictures."""

    alpha: float = _knob(0.5, "of the adaptive ratio; Carlini et al. 2023, section 5.1: 0.5", 0)
    n: int = _knob(50, "nearest groups in the adaptive ratio; the paper: 50", 1)
    shift: int = _knob(2, "pixels by which a picture may be moved", 0, 64)
    flip: bool = _knob(True, "mirrored copies too")
    crop: float = _knob(0.9, "smallest share of an edge that a cropped copy may show; 1 for none", 0.5, 1)
    candidates: int = _knob(5, "nearest groups of a sample that are aligned and measured", 1)
    anywhere: bool = _knob(
        False, "crops down to `crop` and shifts up to `shift` at any place, which the pictures are searched for too"
    )


@dataclass(frozen=True, slots=True)
class CertifyPlan:
    """When a match is a finding."""

    fdr: float = _knob(0.05, "largest false discovery rate against the controls (Benjamini-Hochberg)", 0, 1)
    closest: float = _knob(
        0.15, "tau: the largest distance that is called a reproduction; Carlini et al. 2023, section 4.2: RMS .15", 0, 1
    )
    matched: int = _knob(99, "controls that are most like a picture, for its matched p-value", 1)
    tolerate: int = _knob(1, "--gate passes only an audit that could have certified this few copies", 1)


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What is looked at from inside the denoiser once all is certified: evidence that supports, and decides nothing."""

    findings: int = _knob(0, "the nearest findings, and all pictures that were named before sampling; 0 none", 0)
    claims: bool = _knob(False, "those that were named, whatever findings says")
    controls: int = _knob(100, "controls that are probed alike; with fewer than 19 no p reaches .05", 0)
    noises: int = _knob(4, "noises on a picture for the norm and the map", 1)
    times: int = _knob(16, "denoisings of a picture for its critical scale; From Modes to Memories: 16 or 50", 1)
    radius: float = _knob(0.5, "how far it may get, as a share of its norm; the same: .25 or .5", 0)


@dataclass(frozen=True, slots=True)
class TwinPlan:
    """A counterfactual: the same prompts and seeds asked of a model that was not trained on the pictures."""

    uri: str = _knob("", "the base model of a fine-tune, or a model trained without the pictures; empty for none")


@dataclass(frozen=True, slots=True)
class CanariesPlan:
    """Pictures that `byrote canaries make` drew and a coin put into the training set or kept back."""

    file: str = _knob("", "its canaries.json; empty for none")


@dataclass(frozen=True, slots=True)
class ExtractPlan:
    """A search around each claimed picture (`byrote extract`): controls are tried in the same ways, as often."""

    ways: tuple[str, ...] = _knob(
        ("none", "truncated", "paraphrase", "caption", "adversarial", "left"),
        f"of {', '.join(WAYS)}: its captions and their rewordings, and its halves, hidden and filled by the model",
        WAYS,
    )
    samples: int = _knob(16, "samples of a picture by each way of asking", 1)
    controls: int = _knob(119, "drawn by seed; with fewer than 119 none of six ways alone reaches p .05", 0)
    reconstructions: int = _knob(32, "fillings of a half; Carlini et al. 2023, section 5.3: 5,000", 1)
    steps: int | None = _knob(None, "sampler steps of a filling", 1)
    jump: int = _knob(1, "places of the sampler by which a filling jumps back; Lugmayr et al. 2022: 10 of 250", 1)
    times: int = _knob(3, "times that it goes each way down; the same: 10", 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole audit.toml, resolved. `base` is the folder that relative paths start from."""

    model: ModelPlan
    corpus: CorpusPlan
    prompts: PromptsPlan
    ladder: LadderPlan
    screen: ScreenPlan
    generate: GeneratePlan
    cliques: CliquesPlan
    match: MatchPlan
    certify: CertifyPlan
    probe: ProbePlan
    twin: TwinPlan
    canaries: CanariesPlan
    extract: ExtractPlan
    base: Path

    def file(self, path: str) -> Path:
        """Return where a file that the plan names lies."""
        return (self.base / path).expanduser()

    def as_dict(self) -> dict[str, Any]:
        """Return every knob, for report.json and for digests."""
        return {"format": FORMAT} | {name: asdict(getattr(self, name)) for name in SECTIONS}


SECTIONS: dict[str, type] = {f.name: get_type_hints(Plan)[f.name] for f in fields(Plan) if f.name != "base"}


def load(path: Path) -> Plan:
    """Read and check an audit.toml. Raises PlanError."""
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PlanError(f"{path}: no such file; `byrote init {path.parent}` writes one") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{path}: cannot be read: {error}") from error
    return parse(read, path)


def parse(read: dict[str, Any], path: Path) -> Plan:
    """Check what a TOML file holds. Raises PlanError."""
    _known(path, "", read, ("format", *SECTIONS))
    if read.get("format") != FORMAT:
        raise PlanError(f"{path}: format is {read.get('format')!r}; this byrote reads format = {FORMAT}")
    sections: dict[str, Any] = {name: _section(path, name, kind, read.get(name, {})) for name, kind in SECTIONS.items()}
    sections["corpus"] = _found(sections["corpus"], path.parent.resolve())
    plan = Plan(**sections, base=path.parent.resolve())
    for name, value in (("[model] uri", plan.model.uri), ("[corpus] path", plan.corpus.path)):
        if not value:
            raise PlanError(f"{path}: {name} is not set; write the one that you audit")
    _climbable(path, plan.ladder)
    return plan


def _climbable(path: Path, ladder: LadderPlan) -> None:
    if "caption" not in ladder.rungs:
        raise PlanError(
            f"{path}: [ladder] rungs is {list(ladder.rungs)}; it must hold 'caption': certificates rest on it"
        )
    if "users" in ladder.rungs and not ladder.users:
        raise PlanError(f"{path}: [ladder] users is not set; the rung 'users' wants a file of prompts, one a line")


def template(model: str, corpus: str) -> str:
    """Write a commented audit.toml with every knob at its default."""
    given = {("model", "uri"): model, ("corpus", "path"): corpus}
    lines = ["# What is audited, and how. Relative paths start from this file's folder.", f"format = {FORMAT}"]
    for name, kind in SECTIONS.items():
        lines += ["", f"# {kind.__doc__}", f"[{name}]"]
        lines += [_line(knob, given.get((name, knob.name))) for knob in fields(kind)]
    return "\n".join(lines) + "\n"


def _found(corpus: CorpusPlan, base: Path) -> CorpusPlan:
    """Return the plan with its descriptor's weights by their whole path, where they lie beside the plan."""
    kind, colon, rest = corpus.descriptor.partition(":")
    beside = base / rest
    return replace(corpus, descriptor=f"{kind}:{beside}") if colon and rest and beside.exists() else corpus


def _line(knob: Field[Any], given: str | None) -> str:
    value = given if given is not None else knob.default
    says = knob.metadata["says"]
    if value is None:
        return f"# {knob.name} =   # {says}; {_OWN[knob.name == 'similar']} where it is not set"
    return f"{knob.name} = {_toml(value)}   # {says}"


def _toml(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _section(path: Path, name: str, kind: type[Section], read: Any) -> Section:
    if not isinstance(read, dict):
        raise PlanError(f"{path}: {name} is {read!r}; write it as a section [{name}]")
    knobs = {knob.name: knob for knob in fields(kind)}  # type: ignore[arg-type]
    _known(path, name, read, knobs)
    hints = get_type_hints(kind)
    return kind(**{key: _value(path, f"[{name}] {key}", knobs[key], hints[key], value) for key, value in read.items()})


def _known(path: Path, section: str, read: dict[str, Any], known: Any) -> None:
    for key in read:
        if key not in known:
            place = f"[{section}] {key}" if section else f"{key}"
            raise PlanError(f"{path}: unknown key {place}{did_you_mean(key, known)}; known: {', '.join(known)}")


def _value(path: Path, name: str, knob: Field[Any], hint: Any, value: Any) -> Any:
    if get_origin(hint) is tuple:
        return _words(path, name, knob, value)
    wanted = next((kind for kind in get_args(hint) if kind is not type(None)), hint)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise PlanError(f"{path}: {name} is {value!r}; it takes {_A[wanted]}")
    low, high = knob.metadata["low"], knob.metadata["high"]
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"{low} or more" if high is None else f"{low} to {high}"
        raise PlanError(f"{path}: {name} is {value}; it takes {bounds}")
    if knob.default is MISSING:
        raise TypeError(name)
    return value


def _words(path: Path, name: str, knob: Field[Any], value: Any) -> tuple[str, ...]:
    known = knob.metadata["low"]
    texts = isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)
    if texts and known is None:
        return tuple(value)
    if known is None:
        raise PlanError(f"{path}: {name} is {value!r}; it takes a list of texts")
    if not texts or not value:
        raise PlanError(f"{path}: {name} is {value!r}; it takes a list of words, like {list(known)}")
    for each in value:
        if each not in known:
            raise PlanError(f"{path}: {name} holds {each!r}{did_you_mean(each, known)}; it takes {', '.join(known)}")
    return tuple(word for word in known if word in value)


_A = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
