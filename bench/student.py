"""The student of the generation benchmark: made from scratch by heed's own fit, once, and kept.

    python bench/student.py

Speed of generation depends on how long the responses are and where they end, so random weights
will not do. This student has learnt 150 responses of gpt-3.5-turbo-1106 nearly by heart, and says
pieces of them to whatever it is asked: its texts mean nothing, their lengths are those of a tuned
student, from a few tokens to hundreds, some in a loop up to the cap.
"""

from __future__ import annotations

import os
from pathlib import Path

from heed.core.component import plain
from heed.core.files import write_json, write_yaml
from heed.core.identity import short_hash
from heed.data.layout import Columns
from heed.data.source import LocalFile
from heed.data.teacher import Responses
from heed.data.template import Template
from heed.data.treatment import Treatment
from heed.methods.adapters import Full
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.architectures import Llama
from heed.models.student import Scratch
from heed.models.tokenizer import TrainedBPE
from heed.tracking.tracker import LocalOnly
from heed.training.callbacks import Metrics
from heed.training.optim import AdamW, LearningRate
from heed.training.progress import Progress
from heed.training.rule import Last
from heed.training.run import Recipe
from heed.training.trainer import TrainerSettings

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("HEED_DATA", ROOT.parent / "shared" / "data"))
END = "<|endoftext|>"
TEMPLATE = Template(
    name="alpaca",
    begin="",
    system="{content}\n\n",
    system_in_user=False,
    default_system=None,
    user="### Instruction:\n{content}\n\n",
    assistant="### Response:\n",
    end_of_turn=END,
    between="\n\n",
    special_tokens=(),
)


def student() -> Scratch:
    """A Llama of 12 million parameters, whose tokenizer has seen all responses of its teacher."""
    name = "gpt-3.5-turbo-1106"
    teacher = Responses(
        name=name,
        source=LocalFile(path=str(DATA / "alpaca_eval" / "outputs" / f"{name}.jsonl.gz")),
        layout=Columns(
            system=None,
            instruction="instruction",
            input=None,
            response="output",
            sparse=False,
            reward=None,
        ),
    )
    shape = Llama(
        hidden=384,
        layers=6,
        heads=6,
        kv_heads=6,
        ffn=1024,
        context=2048,
        rope_theta=10000.0,
        tied=True,
        init_std=0.02,
    )
    return Scratch(
        name="bench",
        precision="bf16-mixed",
        architecture=shape,
        tokenizer=TrainedBPE(corpus=teacher, vocabulary=4096, end_of_text=END, pad="<|pad|>"),
        template=TEMPLATE,
        new_tokens="refuse",
        seed=0,
        pretraining=recipe(teacher),
    )


def recipe(teacher: Responses) -> Recipe:
    """How it is trained: all weights; 31 minutes of one core on a busy machine."""
    return Recipe(
        teacher=teacher,
        method=Method(name="full", weights=Plain(), noise=None, adapter=Full()),
        lr=LearningRate(name="bench", peak=1e-3, schedule="cosine", warmup_steps=30, final=0.0),
        data=Treatment(
            max_tokens=1024,
            over_long="drop",
            on_bad_row="error",
            duplicates="keep",
            loss_on="every_turn",
            validation_share=0.0,
            drop_contaminated=False,
            packing="best_fit",
            limit=150,
            examples_per_step=4,
            epochs=None,
            steps=1200,
            micro_tokens=4096,
        ),
        optim=AdamW(
            beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0, clip_norm=1.0, on_non_finite="stop"
        ),
        checkpoint=Last(),
        precision="bf16-mixed",
        seed=0,
    )


def made(outputs: Path) -> Path:
    """Directory of the trained student, in Hugging Face layout; trained on first use."""
    from heed.training.fit import Surroundings, fit

    it = student()
    directory = outputs / "bench" / f"{it.name}--{short_hash(it)}"
    if not (directory / "model").is_dir():
        print(f"Training the student of the benchmark; kept in {directory}", flush=True)
        write_yaml(directory / "config.yaml", plain(it))
        (directory / "metrics.jsonl").unlink(missing_ok=True)
        watchers = {"metrics": Metrics(every_steps=1), "progress": Progress(every_seconds=20.0)}
        cpu = TrainerSettings(
            accelerator="cpu",
            devices=1,
            nodes=1,
            strategy="ddp",
            threads=1,
            deterministic=False,
            activation_checkpointing=False,
            compile=False,
            arguments={},
        )
        found = fit(it.pretraining, it.fresh(), Surroundings(cpu, watchers, LocalOnly()), directory)
        write_json(directory / "fit.json", found)
    return directory / "model"


if __name__ == "__main__":
    print(made(ROOT / "outputs"))
