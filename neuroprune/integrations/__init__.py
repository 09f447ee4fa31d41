"""The pruner in other people's training loops: what resumes it from their checkpoints, one file per package.

`lightning` and `transformers` have a callback each. Accelerate needs none: give the pruner the optimizer inside the
prepared one, and `accelerator.register_for_checkpointing(pruner)` saves and restores it:

    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    pruner = neuroprune.prune_to(0.9, optimizer.optimizer, steps=steps)
    accelerator.register_for_checkpointing(pruner)

`averaging` keeps averages of weights (EMA, SWA) sparse.
"""
