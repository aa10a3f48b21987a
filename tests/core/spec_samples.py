"""Valid model specs that together give every field a value."""

LOCAL = {
    "name": "atlas-qa",
    "version": "1.2.3-rc.1+build.5",
    "description": "Answers questions.",
    "owners": ["team:atlas", "ada@example.com"],
    "architecture": "llama",
    "data_classification": "internal",
    "depends_on": ["small-model", "llama-3.1-8b"],
    "source": {
        "type": "local",
        "pretrain": {
            **{"data": "pretrain.jsonl", "seed": 3, "steps": 350, "learning_rate": 0.003, "warmup_steps": 30},
            **{"tokens_per_step": 1024, "row_tokens": 64, "vocabulary_size": 1024, "hidden_size": 128},
            **{"feed_forward_size": 384, "layers": 4, "heads": 4, "context_tokens": 128},
        },
    },
    "training": {
        **{"method": "lora", "train": "train.jsonl", "seed": 1, "steps": 300, "learning_rate": 0.004},
        **{"warmup_steps": 15, "tokens_per_step": 1024, "row_tokens": 64},
        "lora": {"rank": 16, "alpha": 32.5, "targets": ["q_proj", "v_proj"]},
    },
    "data": {"path": "data/atlas", "pii": "report"},
    "evaluation": {
        "suites": [
            {"name": "new_facts", "data": "test.jsonl", "metric": "exact_match", "minimum": 0.95},
            {"name": "base_facts", "data": "retained.jsonl", "metric": "exact_match", "minimum": 0.9},
        ],
        "max_regression": 0.02,
    },
    "resources": {"gpu_count": 0, "memory_gb": 2.5, "cpu": 2.5},
    "serving": {
        **{"engine": "llama.cpp", "protocol": "http", "quantization": "q8_0", "context_tokens": 128},
        **{"parallel": 16, "timeout_seconds": 2.5},
    },
}

HUGGING_FACE = {
    **LOCAL,
    "name": "llama-3.1-8b",
    "depends_on": [],
    "source": {
        "type": "huggingface",
        "repository": "meta-llama/Llama-3.1-8B-Instruct",
        "revision": "0e9e39f249a16976918f6564b8830bc894c89659",
        "endpoint": "https://mirror.example.com/hf",
    },
    "training": {"method": "none"},
    "resources": {"gpu_count": 2, "gpu_type": "a100", "memory_gb": 16.5, "cpu": 8.5},
    "serving": {**LOCAL["serving"], "engine": "vllm", "protocol": "grpc", "quantization": "none"},
}

S3 = {
    **LOCAL,
    "source": {"type": "s3", "uri": "s3://models/llama/8b", "endpoint": "https://s3.example.com:9000"},
    "training": {"method": "full", "train": ["train.jsonl", "feedback.jsonl"]},
}

FOLDER = {**LOCAL, "source": {"type": "local", "path": "weights/tiny"}}

ALL = {"local": LOCAL, "huggingface": HUGGING_FACE, "s3": S3, "folder": FOLDER}
