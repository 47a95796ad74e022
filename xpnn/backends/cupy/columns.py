"""The kernel that adds up what blocks of threads have found of sums of columns."""

from xpnn.backends.cupy.device_functions import PREAMBLE
from xpnn.backends.cupy.formulas import NARROWED, TYPES

COLUMNS = """
template <typename T, typename U>
__device__ void xpnn_columns(const T* rows, U* target, const int count, const int row) {
    __shared__ T of_lanes[32][33];
    const int j = blockIdx.x * 32 + threadIdx.x;
    T total = 0;
    if (j < row)
        for (int r = threadIdx.y; r < count; r += 32) total += rows[(long long)r * row + j];
    of_lanes[threadIdx.y][threadIdx.x] = total;
    __syncthreads();
    total = xpnn_over_warp(of_lanes[threadIdx.x][threadIdx.y], xpnn_add<T>);
    const int column = blockIdx.x * 32 + threadIdx.y;
    if (threadIdx.x == 0 && column < row) target[column] = total;
}
"""


def columns_kernel(dtypes: tuple[str, ...]) -> tuple[str, str]:
    """The source and the name of the kernel that adds up the rows of several arrays.

    It is called with ``(rows and target of each, number of rows, of columns)``, in blocks of 32
    columns, one after another along the first axis and one array after another along the second.
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
        f'{PREAMBLE}{COLUMNS}\nextern "C" __global__ void {name}'
        f"({', '.join(parameters)}, const int count, const int row) {{\n    {body}\n}}\n",
        name,
    )
