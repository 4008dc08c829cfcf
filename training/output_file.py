"""A file of results that grows while the work goes on, and has its name only when it is whole."""
import contextlib
import io
import os
import sys
from typing import IO, Any

from training.extract_shards import writing


class OutputFile:
    """A file that has its name only when it is whole; until then it is `part`. Names of files stay the bytes they are.

    Args:
      path: of the file, whose folder is made if need be; None for `stdout`, which is not closed.
      stdout: in place of the process's own; it takes bytes, or else text.

    Raises:
      RunError: it cannot be written, in all methods.
    """

    def __init__(self, path: str | None, stdout: IO | None = None):
        self._path, self.part = path, f'{path}.part' if path else ''
        with self._writing():
            if path:
                os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
            self._file: Any = open(self.part, 'wb') if path else stdout or getattr(sys.stdout, 'buffer', sys.stdout)

    def _writing(self):
        # What a closed standard output means is for `console.run` to say.
        return writing(self._path, then='') if self._path else contextlib.nullcontext()

    def write(self, text: str) -> None:
        """Writes text."""
        with self._writing():
            takes_text = isinstance(self._file, io.TextIOBase)
            self._file.write(text if takes_text else text.encode('utf-8', 'surrogateescape'))

    def flush(self) -> None:
        """Lets others see what was written."""
        with self._writing():
            self._file.flush()

    def __enter__(self) -> 'OutputFile':
        return self

    def __exit__(self, kind, *unused) -> None:
        if not self._path:
            return
        # What went wrong first is told.
        with self._writing() if kind is None else contextlib.suppress(OSError):
            self._file.close()
            if kind is None:
                os.replace(self.part, self._path)
