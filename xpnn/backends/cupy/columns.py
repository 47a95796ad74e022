"""The kernel that adds up what blocks of threads have found of sums of columns."""

from xpnn.backends.cupy.formulas import NARROWED, TYPES


def columns_kernel(dtypes: tuple[str, ...]) -> tuple[str, str]:
    """The source and the name of the kernel that adds up the rows of several arrays.

    The source stands behind ``PREAMBLE``. The kernel is called with ``(rows and target of each,
    number of rows, of columns)``, in blocks of 32 columns, one after another along the first axis
    and one array after another along the second.
    """
    parameters, cases = [], []
    for number, char in enumerate(dtypes):
        kind = "float" if char in NARROWED else TYPES[char]
        parameters += [f"const {kind}* rows{number}", f"{TYPES[char]}* target{number}"]
        cases.append(
            f"if (blockIdx.y == {number}) xpnn_columns(rows{number}, target{number}, count, row);"
        )
    name = f"xpnn_columns_{''.join(dtypes)}"
    body = "\n    ".join(cases)
    return (
        f'extern "C" __global__ void {name}'
        f"({', '.join(parameters)}, const int count, const int row) {{\n    {body}\n}}\n",
        name,
    )
