"""Parts of programs: layers, neurons, and what people do between them. Each writes lines, and says what `h` is then."""

from __future__ import annotations

from collections.abc import Callable

from tests.builders.program_text import Text

Part = Callable[[Text], None]


# --- layers, in which `h` becomes a current ---------------------------------------------------------------------------


def linear(p: Text) -> None:
    flat(p)
    out = p.tape.integer(3, 5)
    bias = p.tape.chance(70)
    kind = p.tape.choice("linear", "@", "einsum") if p.tape.chance(15) else "module"
    if kind == "einsum" and p.size == 1:
        kind = "@"  # over one element torch multiplies element by element, which the dispatcher cannot tell from a gain
    library = "layer" if p.whole else p.tape.choice("nn", "nn" if p.is_snntorch else "layer")
    if kind == "module":
        name = p.add("fc", f"{library}.Linear({p.size}, {out}, bias={bias})")
        p.do(f"h = {name}(h)")
    else:
        w = p.add("w", f"nn.Parameter(torch.randn({out}, {p.size}) * 0.6)")
        text = {"linear": f"F.linear(h, {w})", "@": f"h @ {w}.t()", "einsum": f"torch.einsum('...i,oi->...o', h, {w})"}
        p.do(f"h = {text[kind]}", f"layer by {kind}")
    p.shape = (out,)
    p.features["linear"] += 1


def flat(p: Text) -> None:
    if len(p.shape) == 1:
        return
    n = 2 if p.whole else 1
    way = p.tape.choice("flatten", "Flatten", "view", "reshape")
    if way == "Flatten":
        p.do(f"h = {p.add('flat', 'layer.Flatten()' if p.whole else 'nn.Flatten()')}(h)")
    elif way == "flatten":
        p.do(f"h = h.flatten({n})")
    else:
        lead = "h.shape[0], h.shape[1]" if p.whole else "h.shape[0]"
        p.do(f"h = h.{way}({lead}, -1)")
    p.features[f"flat by {way}"] += 1
    p.shape = (p.size,)


def conv(p: Text) -> None:
    channels, kernel = p.tape.integer(1, 3), p.tape.choice(3, 2, 1)
    kernel = min(kernel, p.shape[1])
    padding = p.tape.choice(0, 1) if kernel == 3 or p.shape[1] < 2 else 0
    bias = p.tape.chance(60)
    if p.tape.chance(85) or p.whole:
        library = "layer" if p.whole else "nn"
        name = p.add("conv", f"{library}.Conv2d({p.shape[0]}, {channels}, {kernel}, padding={padding}, bias={bias})")
        p.do(f"h = {name}(h)")
    else:
        w = p.add("k", f"nn.Parameter(torch.randn({channels}, {p.shape[0]}, {kernel}, {kernel}) * 0.5)")
        p.do(f"h = F.conv2d(h, {w}, padding={padding})", "layer by conv2d")
    side = p.shape[1] + 2 * padding - kernel + 1
    p.shape = (channels, side, side)
    p.features["conv"] += 1
    if p.tape.chance(30):
        library = "layer" if p.whole else "nn"
        p.do(f"h = {p.add('bn', f'{library}.BatchNorm2d({channels})')}(h)", "batch-norm")


# --- neurons ----------------------------------------------------------------------------------------------------------


def neurons(p: Text) -> str:
    """Constructor of a layer of neurons."""
    threshold = p.tape.choice("0.3", "0.5", "0.2", "1.0")
    if p.is_snntorch:
        beta = p.tape.choice("0.9", "0.5", "1.0", "0.0")
        reset = p.tape.choice("zero", "zero", "subtract", "none")
        delay = p.tape.choice("", "", ", reset_delay=False")
        hidden = ", spike_grad=step" + (", init_hidden=True" if p.style == "hidden" else "")
        p.features[f"reset {reset}"] += 1
        if p.tape.chance(15):
            return (
                f"snn.Synaptic(alpha=0.8, beta={beta}, threshold={threshold}, reset_mechanism='{reset}'{delay}{hidden})"
            )
        wide = p.tape.chance(15) and len(p.shape) == 1
        if wide:
            p.features["per-neuron beta"] += 1
            beta = f"torch.linspace(0.2, 0.9, {p.size})"
        return f"snn.Leaky(beta={beta}, threshold={threshold}, reset_mechanism='{reset}'{delay}{hidden})"
    reset = p.tape.choice("0.0", "0.0", "0.0", "None", "-0.25")
    p.features["reset to zero" if reset == "0.0" else "other reset"] += 1
    kind = p.tape.choice("IF", "IF", "LIF", "LIF", "PLIF", "CUBA")
    common = f"v_threshold={threshold}, v_reset={reset}"
    decay = p.tape.choice("True", "False")
    p.features[kind] += 1
    return {
        "IF": f"neuron.IFNode({common})",
        "LIF": f"neuron.LIFNode(tau={p.tape.choice('2.0', '1.5')}, decay_input={decay}, {common})",
        "PLIF": f"neuron.ParametricLIFNode(init_tau=1.7, decay_input={decay}, {common})",
        "CUBA": f"neuron.CUBALIFNode(c_decay=0.5, v_decay=0.75, {common})",
    }[kind]


def fire(p: Text, name: str = "") -> str:
    """`h` becomes spikes; gives the name of the neurons."""
    made = neurons(p) if not name else ""
    name = name or p.add("sn", made)
    if p.style.startswith("states"):
        state = f"m_{name.removeprefix('self.')}"
        if made:
            two = "Synaptic" in made
            call = "init_synaptic()" if two else "init_leaky()"
            p.before.append(f"{state} = {name}.{call}")
            p.features.update(["two states"] if two else [])
            p.init.append(f"self.{name.removeprefix('self.')}_states = {2 if two else 1}")
        if p.init.count(f"self.{name.removeprefix('self.')}_states = 2"):
            p.do(f"h, *{state} = {name}(h, *{state})")
        else:
            p.do(f"h, {state} = {name}(h, {state})")
    else:
        p.do(f"h = {name}(h)")
    p.binary = True
    return name


# --- what people do to spikes -----------------------------------------------------------------------------------------


def pooled(p: Text) -> None:
    if len(p.shape) != 3 or p.shape[1] < 2:
        return
    kinds = ("avg", "max", "adaptive", "F.avg", "F.max")
    kind = p.tape.choice(*kinds[: 3 if p.whole else 5])
    library, side = ("layer" if p.whole else "nn"), p.shape[1] // 2
    made = {"avg": "AvgPool2d(2)", "max": "MaxPool2d(2)", "adaptive": f"AdaptiveAvgPool2d({side})"}
    if kind in made:
        p.do(f"h = {p.add('pool', f'{library}.{made[kind]}')}(h)", f"{kind} pool")
    else:
        p.do(f"h = F.{kind[2:]}_pool2d(h, 2)", f"{kind} pool")
    p.shape, p.binary = (p.shape[0], side, side), p.binary and "max" in kind


def scaled(p: Text) -> None:
    ways = ("h * 0.5", "2.0 * h", "h / 4", "h * {gain}", "h.mul(0.75)", "h * -1.0", "h - 0.25 * h", "(h * 0.5) ** 2")
    gain = p.tape.choice(*ways, "torch.where(h > 0, 0.5, 0.0)")
    if "{gain}" in gain:
        gain = gain.replace("{gain}", p.add("gain", "nn.Parameter(torch.tensor(0.7))"))
    p.do(f"h = {gain}", "spikes times a constant")
    p.binary = False


def joined(p: Text) -> None:
    """A second layer of neurons of the same shape, joined with the first as SEW blocks do."""
    skip = p.local("skip")
    p.do(f"{skip} = h")
    weight_layer(p)
    fire(p)
    way = p.tape.choice("h + {s}", "h * {s}", "{s} * (1. - h)", "torch.cat([h, {s}], {axis})", "h - {s}")
    axis = 2 if p.whole else 1
    p.do(f"h = {way.format(s=skip, axis=axis)}", f"join by {way.split('(')[0].strip()}")
    if "cat" in way:
        p.shape = (2 * p.shape[0], *p.shape[1:])
    p.binary = "*" in way


def weight_layer(p: Text) -> None:
    """A layer that keeps the shape."""
    if len(p.shape) == 3:
        library = "layer" if p.whole else "nn"
        name = p.add("same", f"{library}.Conv2d({p.shape[0]}, {p.shape[0]}, 1)")
    else:
        name = p.add("same", f"{'layer' if p.whole else 'nn'}.Linear({p.size}, {p.size})")
    p.do(f"h = {name}(h)")


def in_place(p: Text) -> None:
    index = "[:, :, :1]" if p.whole else "[:, :1]"
    way = p.tape.choice(
        "h.mul_(0.5)",
        "h += 0",
        f"h{index} = 0",
        "b = torch.zeros_like(h); b.copy_(h); h = b",
        f"b = torch.zeros_like(h); b{index} = h{index}; h = b",
        "h.clamp_(max=1)",
        "h.data.mul_(0.5)",
        "h = h.clone(); h.add_(h)",
        "h.detach().zero_()",
    )
    p.do(way, "in-place write")
    p.binary = False


def dropout(p: Text) -> None:
    way = p.tape.choice("module", "F.dropout(h, 0.5, self.training)", "F.dropout(h, 0.5)")
    if way == "module":
        p.do(f"h = {p.add('drop', 'layer.Dropout(0.5)' if p.whole else 'nn.Dropout(0.5)')}(h)", "dropout")
    else:
        p.do(f"h = {way}", "dropout" if "training" in way else "dropout that stays on")
        p.binary = False


def reused(p: Text) -> None:
    """A layer and its neurons, or the layer alone, called twice."""
    library = "layer" if p.whole else "nn"
    if len(p.shape) == 3:
        name = p.add("twice", f"{library}.Conv2d({p.shape[0]}, {p.shape[0]}, 1)")
    else:
        name = p.add("twice", f"{library}.Linear({p.size}, {p.size})")
    p.do(f"h = {name}(h)")
    node = fire(p)
    p.do(f"h = {name}(h)", "layer used twice")
    if p.tape.chance(40):
        fire(p, node)
        p.features["neurons used twice"] += 1
    else:
        fire(p)


def decided(p: Text) -> None:
    way = p.tape.choice(
        "if h.sum() > {n}: h = h * 0",
        "h = h if float(h.mean()) < 0.4 else 1 - h",
        "h = torch.where(h.sum() > {n}, h, h * 0)",
        "h = h * (h.mean() < 0.5)",
        "if h.max() == 0: h = h + 1",
    )
    p.do(way.format(n=p.size), "depends on values")
    p.binary = False


def hidden_change(p: Text) -> None:
    """What neither a module nor a function of torch does."""
    way = p.tape.choice(
        "h.numpy()[..., 0] = 0",
        "h = torch.from_numpy(h.numpy().copy())",
        "h = torch.tensor(h.tolist(), dtype=h.dtype)",
    )
    p.do(way, "hidden from torch")
    p.binary = False


ON_SPIKES: tuple[Part, ...] = (
    pooled,
    pooled,
    scaled,
    joined,
    joined,
    in_place,
    dropout,
    reused,
    decided,
    hidden_change,
)


# --- what people do to currents ---------------------------------------------------------------------------------------


def offset(p: Text) -> None:
    axes = (1,) * (len(p.shape) - 1)
    way = p.tape.choice("parameter", "constant", "steps", "scale of steps", "counter")
    if way == "parameter":
        p.do(f"h = h + {p.add('offset', f'nn.Parameter(torch.randn({(p.shape[0], *axes)}) * 0.2)')}", "offset")
    elif way == "constant":
        p.do("h = h + 0.1", "offset")
    elif way in ("steps", "scale of steps"):
        if p.whole:
            each = p.add("each", f"nn.Parameter(0.5 + torch.rand({(p.steps, 1, p.shape[0], *axes)}))")
        else:
            each = p.add("each", f"nn.Parameter(0.5 + torch.rand({(p.steps, p.shape[0], *axes)}))") + "[t]"
        counted(p)
        p.do(f"h = h {'+' if way == 'steps' else '*'} {each}", "parameter of each step")
    else:
        counted(p)
        p.do("h = h * (1.0 + 0.5 * (t == 2))" if not p.whole else "h[2] = 0", "parameter of each step")


def counted(p: Text) -> None:
    """`t`, where no loop has it."""
    if p.loops or p.whole:
        return
    if "self.step_ = 0" not in p.init:
        p.init.append("self.step_ = 0")
        p.body.insert(0, f"t = self.step_ % {p.steps}; self.step_ += 1")


def norm_of_steps(p: Text) -> None:
    if p.whole:
        return
    kind = f"nn.BatchNorm{2 if len(p.shape) == 3 else 1}d({p.shape[0]})"
    name = p.add("norms", f"nn.ModuleList({kind} for _ in range({p.steps}))")
    counted(p)
    p.do(f"h = {name}[t](h)", "batch-norm of each step")


def recurrence(p: Text) -> None:
    """Neurons that hear what they, or others, sent one step before; `fire` follows at once."""
    if p.whole:
        containers(p)
        return
    name = p.local("back")
    if p.tape.chance(50) and len(p.shape) == 1:
        w = p.add("rec", f"nn.Linear({p.size}, {p.size}, bias=False)") + "({0})"
    else:
        w = "0.5 * {0}"
    if p.loops:
        p.before.append(f"{name} = 0")
        p.do(
            f"h = h + ({w.format(name)} if t else 0)" if "self" in w else f"h = h + {w.format(name)}", "own recurrence"
        )
        fire(p)
        p.do(f"{name} = h")
    else:
        p.init.append(f"self.{name} = None")
        p.do(f"h = h if self.{name} is None else h + {w.format(f'self.{name}')}", "own recurrence")
        fire(p)
        p.do(f"self.{name} = h")
        p.features["state of its own"] += 1


def containers(p: Text) -> None:
    """SpikingJelly's recurrent containers around neurons."""
    inner = neurons(p).replace("neuron.", "neuron.")
    step = ", step_mode='m'" if p.whole else ""
    if len(p.shape) == 1 and p.tape.chance(60):
        made = f"layer.LinearRecurrentContainer({inner}, {p.size}, {p.size}{step})"
    else:
        made = f"layer.ElementWiseRecurrentContainer({inner}, element_wise_function=lambda x, y: x + y{step})"
    p.do(f"h = {p.add('rc', made)}(h)", "recurrent container")
    p.binary = True


def threshold_of_steps(p: Text) -> None:
    """Neurons whose threshold somebody changes while they run."""
    if p.is_snntorch or p.whole:
        return
    counted(p)
    name = p.add("sn", neurons(p))
    p.do(f"{name}.v_threshold = 0.2 + 0.1 * t", "threshold of each step")
    p.do(f"h = {name}(h)")
    p.binary = True


def skipped(p: Text) -> None:
    """Neurons that do not run in every step."""
    if p.is_snntorch or p.whole:
        return
    counted(p)
    name = p.add("sn", neurons(p))
    p.do(f"h = {name}(h) if t % 2 == 0 else h * 0", "neurons that skip steps")


def reset_on_the_way(p: Text) -> None:
    if p.is_snntorch or not p.loops:
        return
    name = p.add("sn", neurons(p))
    p.do(f"if t == 2: {name}.reset()", "reset on the way")
    p.do(f"h = {name}(h)")


def two_currents(p: Text) -> None:
    """Two layers add up, as in a shortcut."""
    skip = p.local("side")
    p.do(f"{skip} = h")
    weight_layer(p)
    p.do(f"h = h + {skip}" if p.tape.chance(50) else f"h = {skip} + 0.5 * h", "currents after currents")


ON_CURRENTS: tuple[Part, ...] = (offset, offset, norm_of_steps, two_currents)
INSTEAD_OF_NEURONS: tuple[Part, ...] = (recurrence, threshold_of_steps, skipped, reset_on_the_way)
