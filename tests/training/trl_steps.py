"""TRL's side of the parity test, in a process of its own: it sets seeds, loggers and warnings.

    python trl_steps.py given.json

`given` names a student on disk, rows of tokens and labels in order, an adapter's fresh weights or
null, and the settings of the step; loss and gradient norm of every step are printed as JSON.
"""

import json
import sys


def main(path: str) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    with open(path) as file:
        given = json.load(file)
    config = SFTConfig(
        output_dir=given["scratch"],
        per_device_train_batch_size=given["rows"],
        gradient_accumulation_steps=given["micro"],
        max_steps=given["steps"],
        learning_rate=given["lr"],
        lr_scheduler_type="constant",
        adam_beta1=given["beta1"],
        adam_beta2=given["beta2"],
        adam_epsilon=given["eps"],
        weight_decay=0.0,
        max_grad_norm=given["clip_norm"],
        optim="adamw_torch",
        packing=False,
        max_length=None,
        completion_only_loss=True,
        average_tokens_across_devices=True,
        train_sampling_strategy="sequential",
        shuffle_dataset=False,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(given["student"], dtype=torch.float32),
        args=config,
        train_dataset=Dataset.from_list(given["data"]),
        processing_class=AutoTokenizer.from_pretrained(given["student"]),
        peft_config=adapter(given["rank"]) if given["adapter"] else None,
    )
    if given["adapter"]:
        same_weights(trainer.model, given["adapter"])
    trainer.train()
    found = [row for row in trainer.state.log_history if "grad_norm" in row]
    sys.stdout.write(json.dumps([[row["loss"], row["grad_norm"]] for row in found]) + "\n")


def adapter(rank: int):
    import peft

    return peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def same_weights(model, path: str) -> None:
    from safetensors.torch import load_file

    given = load_file(path)
    mine = dict(model.named_parameters())
    assert {name for name in mine if mine[name].requires_grad} == set(given)
    for name, tensor in given.items():
        mine[name].data.copy_(tensor)


if __name__ == "__main__":
    main(sys.argv[1])
