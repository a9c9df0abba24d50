"""Makes PTX of the kernels with NVRTC: `python compile.py OUT_FOLDER NAME...`; `cargo xtask kernels` calls it.

Only the library of the wheel in nvrtc-12.0.txt is used, so that the same sources give the same bytes everywhere.
"""

import ctypes
import importlib.util
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
# An old virtual architecture: every card since Volta can compile it, and every driver since R525 reads this ISA (8.0).
OPTIONS = ["--gpu-architecture=compute_70", "--std=c++14", "--fmad=false", "--ftz=false", "--restrict"]


def nvrtc():
    package = pathlib.Path(importlib.util.find_spec("nvidia.cuda_nvrtc").submodule_search_locations[0])
    # The compiler proper finds its builtins beside it, if they are loaded before.
    ctypes.CDLL(str(package / "lib" / "libnvrtc-builtins.so.12.0"), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(package / "lib" / "libnvrtc.so.12"))


def compile_kernel(lib, name):
    headers = sorted(HERE.glob("*.cuh"))
    texts = (ctypes.c_char_p * len(headers))(*[header.read_bytes() for header in headers])
    names = (ctypes.c_char_p * len(headers))(*[header.name.encode() for header in headers])
    program = ctypes.c_void_p()
    source = (HERE / name).read_bytes()
    check(lib.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), len(headers), texts, names), name)
    options = (ctypes.c_char_p * len(OPTIONS))(*[option.encode() for option in OPTIONS])
    status = lib.nvrtcCompileProgram(program, len(OPTIONS), options)
    log = text(program, lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog).strip()
    if log:
        print(log, file=sys.stderr)
    check(status, name)
    return text(program, lib.nvrtcGetPTXSize, lib.nvrtcGetPTX)


def text(program, get_size, get):
    size = ctypes.c_size_t()
    check(get_size(program, ctypes.byref(size)), "size")
    buffer = ctypes.create_string_buffer(size.value)
    check(get(program, buffer), "text")
    return buffer.value.decode()


def check(status, what):
    if status != 0:
        sys.exit(f"NVRTC: {what}: error {status}")


if __name__ == "__main__":
    out, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
    library = nvrtc()
    for kernel in names:
        path = out / pathlib.Path(kernel).with_suffix(".ptx")
        path.write_bytes(compile_kernel(library, kernel).encode())
