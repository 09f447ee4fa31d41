"""Functions of torch by what they do, under the names that a function mode sees."""

from __future__ import annotations

MULTIPLICATIONS = frozenset({"mul", "mul_", "multiply", "multiply_", "__mul__", "__rmul__", "__imul__"})
DIVISIONS = frozenset({"div", "div_", "divide", "divide_", "true_divide", "true_divide_", "__truediv__"})
ADDITIONS = frozenset({"add", "add_", "__add__", "__radd__", "__iadd__"})
SUBTRACTIONS = frozenset({"sub", "sub_", "subtract", "subtract_", "__sub__", "__isub__", "rsub", "__rsub__"})
#: They write to their first argument.
SCALING_WRITES = frozenset({"mul_", "multiply_", "__imul__", "div_", "divide_", "true_divide_"})
WRITES = SCALING_WRITES | {"add_", "__iadd__", "__setitem__", "copy_"}
WRITES |= {"sub_", "subtract_", "__isub__", "pow_", "square_", "sqrt_"}
#: They hand a tensor's memory to whoever may write to it unseen.
EXPOSING = frozenset({"numpy", "__array__", "__dlpack__"})
#: Results hold nothing of the arguments' values.
CONSTANTS = frozenset(
    {"zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "zero_", "fill_", "size"}
    | {"new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "numel", "dim"}
)
#: Results are no longer analog.
COMPARISONS = frozenset(
    {"gt", "ge", "lt", "le", "eq", "ne", "greater", "less", "greater_equal", "less_equal", "heaviside", "bernoulli"}
    | {"__gt__", "__ge__", "__lt__", "__le__", "__eq__", "__ne__", "sign", "argmax", "bool"}
)
#: A layer's product, whose second argument is its weight.
LAYERS = frozenset({"linear", "conv1d", "conv2d", "conv3d"})
TRANSPOSED = frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
#: Products of two factors.
PLAIN_PRODUCTS = frozenset(
    {"matmul", "__matmul__", "mm", "bmm", "mv", "dot", "vdot", "inner", "outer", "ger", "tensordot", "linalg_matmul"}
    | {"linalg_vecdot"}
)
#: With something that is added, first.
PRODUCTS_WITH_SUM = frozenset({"addmm", "addmv", "baddbmm", "addbmm", "addr"})
PRODUCTS = (
    LAYERS
    | TRANSPOSED
    | PLAIN_PRODUCTS
    | PRODUCTS_WITH_SUM
    | {f"{name}_" for name in PRODUCTS_WITH_SUM}
    | {"__rmatmul__", "einsum"}
)
#: What multiplies several tensors at once, or with something in between.
OTHER_PRODUCTS = frozenset(
    {"scaled_dot_product_attention", "multi_head_attention_forward", "bilinear", "multi_dot", "chain_matmul", "cdist"}
    | {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", "conv_tbc"}
    | {"kron", "linalg_multi_dot", "cross", "linalg_cross", "embedding_bag", "cosine_similarity", "addcmul", "addcmul_"}
)
#: They may take data and weights without multiplying them; products by element are looked at apart.
HARMLESS = (
    ADDITIONS
    | MULTIPLICATIONS
    | DIVISIONS
    | COMPARISONS
    | CONSTANTS
    | SUBTRACTIONS
    | {
        "cat",
        "concat",
        "stack",
        "where",
        "maximum",
        "minimum",
    }
    | {"__setitem__", "copy_", "to", "type_as", "expand_as", "view_as", "__getitem__", "index_select", "masked_fill"}
    | {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "embedding", "broadcast_tensors", "prelu"}
    | {"allclose", "equal", "result_type", "can_cast"}
)
#: Of a tensor, they tell other things than its values.
ATTRIBUTES = frozenset(
    {
        *(
            "shape",
            "dtype",
            "device",
            "is_cuda",
            "requires_grad",
            "grad_fn",
            "grad",
            "ndim",
            "is_nested",
            "layout",
            "size",
        )
    }
    | {"dim", "numel", "is_contiguous", "stride", "is_floating_point", "element_size", "data_ptr", "item", "is_leaf"}
    | {"untyped_storage", "_version", "is_inference", "storage_offset", "__len__", "_set_grad_enabled", "__bool__"}
    | {
        "get_device",
        "is_sparse",
        "is_quantized",
        "_backward_hooks",
        "is_mps",
        "is_xla",
        "is_cpu",
        "is_meta",
        "__repr__",
    }
)
