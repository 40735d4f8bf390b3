"""The text of a program (csrc/kernels/fused/program.h): passes over a row, as few as its reductions need."""

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.tuning.fused.fusion import Fusion, is_number, operands
from gradserve_server.graph.tuning.fused.table import REDUCTIONS, TABLE, number
from gradserve_server.graph.values import constant

FEWEST_LINES = 2
"""Of a program that is worth it; onnxruntime runs one instruction as fast."""


class Writer:
    """Writes the program of some nodes.

    Args:
        fusion: The nodes.
        results: Which of their values are outputs, in order.
    """

    def __init__(self, fusion: Fusion, results: Sequence[ir.Value]) -> None:
        self._fusion = fusion
        self._results = results
        self._lines: list[str] = []
        self._inputs = {value: f"x{i}" for i, value in enumerate(fusion.inputs)}
        self._rows: dict[ir.Value, str] = {}
        self._row_count = 0
        self._levels = self._level_of_each()

    def program(self) -> str:
        """The text."""
        wide = [value for value in self._results if value not in self._fusion.narrow]
        last = max(self._levels.values(), default=0)
        for level in range(last + 1):
            reductions = [node for node in self._reductions() if self._levels[node.outputs[0]] == level]
            self._reduce(reductions)
            for node in self._fusion.nodes:
                out = node.outputs[0]
                if out in self._fusion.narrow and node.op_type not in REDUCTIONS and self._levels[out] == level:
                    self._rows[out] = TABLE[node.op_type].write(self._row_line, node, [self._row(v) for v in _read(node)])
        self._finish(wide)
        for i, value in enumerate(self._results):
            if value in self._fusion.narrow:
                self._lines.append(f"y{i} = copy {self._rows[value]}")
        return "\n".join(self._lines)

    # ---- levels: how many reductions lie before a value --------------------------------------------------------------

    def _level_of_each(self) -> dict[ir.Value, int]:
        levels: dict[ir.Value, int] = {}
        for node in self._fusion.nodes:
            before = max((levels.get(value, 0) for value in _read(node)), default=0)
            levels[node.outputs[0]] = before + (node.op_type in REDUCTIONS)
        return levels

    def _reductions(self) -> list[ir.Node]:
        return [node for node in self._fusion.nodes if node.op_type in REDUCTIONS]

    # ---- passes ------------------------------------------------------------------------------------------------------

    def _reduce(self, reductions: Sequence[ir.Node]) -> None:
        """A pass that ends with reductions."""
        if not reductions:
            return
        summed = [_read(node)[0] for node in reductions]
        code = _Pass(self, summed)
        operands_of = [code.temporary(value) for value in summed]
        self._lines += code.text()
        for node, operand in zip(reductions, operands_of, strict=True):
            row = self._rows[node.outputs[0]] = self._new_row()
            self._lines.append(f"{row} = {REDUCTIONS[node.op_type]} {code.register(operand)}")

    def _finish(self, results: Sequence[ir.Value]) -> None:
        """The pass that writes whole rows.

        A result may take the place of an input in memory: it is written after the last line that reads one.
        """
        if not results:
            return
        code = _Pass(self, results)
        names = {value: f"y{self._results.index(value)}" for value in results}
        self._lines += code.text(names)

    # ---- what passes ask for -----------------------------------------------------------------------------------------

    def operand(self, value: ir.Value) -> str | None:
        """How a line reads a value that no line of its own pass makes."""
        if is_number(value):
            return number(float(np.asarray(constant(value)).item()))
        return self._inputs.get(value) or self._rows.get(value)

    def makers(self) -> dict[ir.Value, ir.Node]:
        """The nodes that make whole rows."""
        return {node.outputs[0]: node for node in self._fusion.nodes if node.outputs[0] not in self._fusion.narrow}

    def _row(self, value: ir.Value) -> str:
        found = self.operand(value)
        assert found is not None
        return found

    def _row_line(self, instruction: str, *read: str) -> str:
        row = self._new_row()
        self._lines.append(f"{row} = {instruction} {' '.join(read)}")
        return row

    def _new_row(self) -> str:
        self._row_count += 1
        return f"r{self._row_count - 1}"


class _Pass:
    """The lines over whole rows that some values need, with registers given out when all lines are known.

    Until then `%i` is the result of line i.
    """

    def __init__(self, writer: Writer, wanted: Iterable[ir.Value]) -> None:
        self._writer = writer
        self._makers = writer.makers()
        self._lines: list[tuple[str, tuple[str, ...]]] = []
        self._made: dict[ir.Value, str] = {}
        self._registers: dict[str, str] = {}
        self._wanted = {value: self._value(value) for value in wanted}

    def temporary(self, value: ir.Value) -> str:
        """A line's result that holds the value; an input is copied."""
        if not self._wanted[value].startswith("%"):
            self._wanted[value] = self._line("copy", self._wanted[value])
        return self._wanted[value]

    def register(self, result: str) -> str:
        """Where a line's result is."""
        return self._registers[result]

    def text(self, outputs: dict[ir.Value, str] | None = None) -> list[str]:
        """The lines. Results stay in their registers; `outputs` are written after all inputs were read."""
        outputs = outputs or {}
        names = {self.temporary(value): name for value, name in outputs.items()}
        kept = set(self._wanted.values()) - set(names)
        last_use = {read: i for i, (_, reads) in enumerate(self._lines) for read in reads}
        last_input = max((i for read, i in last_use.items() if read[0] == "x"), default=-1)
        late = {result for result in names if int(result[1:]) < last_input or result in last_use}
        free: list[str] = []
        count, text = 0, []
        for i, (instruction, reads) in enumerate(self._lines):
            result = f"%{i}"
            line = " ".join([instruction, *(self._registers.get(read, read) for read in reads)])
            for read in dict.fromkeys(reads):
                if last_use[read] == i and read in self._registers and read not in kept and read not in late:
                    free.append(self._registers[read])
            if result in names and result not in late:
                text.append(f"{names[result]} = {line}")
                continue
            if free:
                register = free.pop()
            else:
                register, count = f"t{count}", count + 1
            self._registers[result] = register
            text.append(f"{register} = {line}")
        return text + [f"{names[result]} = copy {self._registers[result]}" for result in names if result in late]

    def _value(self, value: ir.Value) -> str:
        found = self._made.get(value) or self._writer.operand(value)
        if found is not None:
            return found
        node = self._makers[value]
        made = TABLE[node.op_type].write(self._line, node, [self._value(read) for read in _read(node)])
        self._made[value] = made
        return made

    def _line(self, instruction: str, *read: str) -> str:
        self._lines.append((instruction, read))
        return f"%{len(self._lines) - 1}"


def _read(node: ir.Node) -> list[ir.Value]:
    found = operands(node)
    assert found is not None
    return found
