"""dlsam_info MODEL: what a trained model is, what it costs, and where it comes from."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from delightsam_pipeline.commands.common import Parser, command, folder, log
from delightsam_pipeline.commands.models import find_models

# entries of the provenance that have a place of their own in the text
_ELSEWHERE = ("training_cases", "added_to", "weights_licence")


def parser() -> Parser:
    """The command's options."""
    p = Parser(
        "Say what a trained model is: heads and classes, parameters and GFLOP part by part, training data, versions, "
        "provenance and licence."
    )
    p.add_argument("model", type=folder, metavar="MODEL", help="model folder, or the DATASET it was trained on")
    p.add_argument("-f", "--fold", help="which fold's model (default: fold all, or else the lowest)")
    p.add_argument("--json", action="store_true", help="all of it as JSON, with the names of the training cases")
    return p


def _work(args) -> None:
    if args.json:  # standard output is the JSON's alone
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s", force=True)
    folds = None if args.fold is None else [args.fold]
    if args.model.exists() or args.model.name != str(args.model):
        (model,) = find_models(args.model, None, folds)
    else:
        (model,) = find_models(None, str(args.model), folds, "give the name of one of them, or a model folder")
    found = describe(model)
    if args.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    log.info("%s", _text(found))
    for name, cases in training_cases(found["provenance"]).items():
        log.debug("\ntraining cases of %s: %s", name, ", ".join(cases))


def describe(folder: Path) -> dict[str, Any]:
    """All that is known of the model in a folder, JSON-able. Raises UserError when it cannot be read whole."""
    from delightsam_pipeline.inference.model_folder import load_model, load_postprocessing, sha256
    from delightsam_pipeline.model.costs import SAM_VIT_H, parameters, work

    model, plans, card = load_model(folder)
    counts, cases, heads = parameters(model), training_cases(card.provenance), {}
    postprocessing = load_postprocessing(folder)
    for name, plan in plans.items():
        flop = work(model, name, *plan.patch_size)
        heads[name] = {
            "modality": plan.modality,
            "classes": list(plan.targets.classes),
            "channels": plan.channel_names,
            "size": list(plan.patch_size),
            "gflop": {part: value / 1e9 for part, value in [*flop.items(), ("all", sum(flop.values()))]},
            "training_cases": len(cases[name]) if name in cases else None,
            "postprocessing": postprocessing[name].model_dump(mode="json") if name in postprocessing else None,
        }
    shared = sum(counts.get(part, 0) for part in ("encoder", "prompt", "decoder", "joint"))
    controllers, own = counts["controllers"].values(), counts["heads"].values()
    counts |= {"shared": shared, "all": shared + sum(controllers) + sum(own)}
    counts |= {"one controller and head": shared + max(controllers) + max(own), "SAM ViT-H": SAM_VIT_H}
    return {
        "model": str(folder),
        "form": model.form,
        "heads": heads,
        "parameters": counts,
        "sha256": sha256(folder / "model.safetensors"),
        "licence": licence(card.provenance),
        "provenance": card.provenance,
    }


def _origins(provenance: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The provenance of a model, and before it those of the models that its heads were added to."""
    earlier = provenance.get("added_to")
    if isinstance(earlier, dict):
        yield from _origins(earlier)
    yield provenance


def training_cases(provenance: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the cases that each head was trained on, of the heads where they are recorded."""
    recorded = [origin.get("training_cases") for origin in _origins(provenance)]
    return {head: cases for entry in recorded if isinstance(entry, dict) for head, cases in entry.items()}


def licence(provenance: Mapping[str, Any]) -> str:
    """Whose the weights are: as stated, else yours, and that of pretrained weights beside it."""
    parts = []
    for origin in _origins(provenance):
        parts.append(origin.get("weights_licence") or "yours: trained from your data")
        if origin.get("pretrained"):
            parts.append(f"begun with {origin['pretrained']}, whose licence holds as well")
        if isinstance(origin.get("teacher"), dict):
            parts.append(f"with the decoder of {origin['teacher']['file']}, whose licence holds as well")
    return "; ".join(dict.fromkeys(parts))


def _text(found: Mapping[str, Any]) -> str:
    blocks = [_about(found), _heads(found["heads"]), _parameters(found["parameters"]), _work_table(found["heads"])]
    lines = ["licence of the weights", f"  {found['licence']}", "SHA-256 of the weights", f"  {found['sha256']}"]
    for number, origin in enumerate(reversed([*_origins(found["provenance"])])):
        lines.append("provenance" if not number else "added to a model with the provenance")
        shown = {key: value for key, value in origin.items() if key not in _ELSEWHERE and value is not None}
        lines += [f"  {key.replace('_', ' ')}: {_said(value)}" for key, value in shown.items()]
    return "\n\n".join([*blocks, "\n".join(lines)])


def _said(value: Any) -> str:
    return ", ".join(f"{k} {_said(v)}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _about(found: Mapping[str, Any]) -> str:
    joint, detail = found["form"]["joint"], found["form"]["detail"]
    queries = f"{joint} queries that all heads share, as in the authors' release" if joint else "queries of each head"
    path = "a contour path" if detail else "no contour path"
    return f"{found['model']}\nDe-LightSAM with {queries} and {path}"


def _heads(heads: Mapping[str, Any]) -> str:
    lines = []
    for name, head in heads.items():
        cases = head["training_cases"]
        lines += [
            f"head {name}",
            f"  modality: {head['modality']}",
            f"  classes: {', '.join(head['classes'])}",
            f"  image channels: {', '.join(head['channels'])}",
            f"  training cases: {'not recorded' if cases is None else cases}",
            *_postprocessing(head["postprocessing"]),
        ]
    return "\n".join(lines)


def _postprocessing(found: Mapping[str, Any] | None) -> list[str]:
    """What is done to the masks of a head, and what it was chosen on."""
    from delightsam_pipeline.evaluation.postprocessing import Postprocessing, rule_text

    if found is None:
        return ["  post-processing: not chosen yet (dlsam_evaluate -d chooses it)"]
    chosen = Postprocessing.model_validate(found)
    on = f"{chosen.n_cases} held-out cases of fold {', '.join(map(str, chosen.folds))}"
    lines = [f"  post-processing: {'' if chosen.rules else 'none, '}chosen on {on}"]
    for name, rule in chosen.rules.items():
        lines.append(f"    {name}: {rule_text(rule, chosen.unit)}")
        if name in chosen.honest:
            seen = chosen.honest[name]
            lines[-1] += f" (Dice {seen.without_rules:.4f} to {seen.with_rules:.4f} on cases it was not chosen on)"
    return lines


def _parameters(counts: Mapping[str, Any]) -> str:
    from delightsam_pipeline.evaluation.tables import columns

    whole = counts["SAM ViT-H"]
    rows = {"shared part": counts["shared"]}
    rows |= {f"  {part}": counts[part] for part in ("encoder", "prompt", "decoder", "joint") if part in counts}
    rows |= {f"controller {name}": count for name, count in counts["controllers"].items()}
    rows |= {f"head {name}": count for name, count in counts["heads"].items()}
    rows |= {"with one controller and one head": counts["one controller and head"], "all": counts["all"]}
    heading = ("parameters", "", f"of SAM ViT-H's {whole:,}")
    return columns([heading, *((name, f"{count:,}", f"{count / whole:.2%}") for name, count in rows.items())])


def _work_table(heads: Mapping[str, Any]) -> str:
    from delightsam_pipeline.evaluation.tables import columns

    parts = list(next(iter(heads.values()))["gflop"])
    rows = [("GFLOP of one pass", "at", *parts)]
    for name, head in heads.items():
        size = " x ".join(map(str, head["size"]))
        rows.append((f"head {name}", size, *(f"{head['gflop'][part]:.3f}" for part in parts)))
    return columns(rows)


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
