"""Arrays out of .npz files that others wrote."""

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpack_arrays(content: bytes, limit_bytes: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz file by name.

    Nothing is unpickled. Raises ValueError, saying why, where it is no such file, is damaged or
    unpacks to over `limit_bytes`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size <= limit_bytes:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile and numpy raise a dozen kinds at damaged bytes
        said = " ".join(str(error).split())
        raise ValueError(f"it is no whole .npz file of plain arrays ({said})") from error
    raise ValueError(f"it unpacks to over {limit_bytes // 2**20} MiB")
