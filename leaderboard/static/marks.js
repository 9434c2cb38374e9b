
// ---- marks: a stack has one color, marker and dash in all charts, see noisybench/plots/method_styles.py

const styleOf = stack => {
  const [color, marker, dash] = board.styles[stack] ?? ["var(--text)", "circle", ""];
  return { color, marker, dash };
};
// Corners, direction of the first one in degrees, size, and the size of the corners between them.
const SHAPES = { square: [4, 45, 1.2], diamond: [4, 0, 1.3], triangle: [3, -90, 1.3], triangle_down: [3, 90, 1.3], pentagon: [5, -90, 1.2], star: [5, -90, 1.5, 0.6] };
function outline(marker, r) {
  if (!SHAPES[marker]) return `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
  const [corners, turn, size, inner] = SHAPES[marker], count = inner ? 2 * corners : corners;
  const at = i => {
    const angle = (turn + 360 * i / count) * Math.PI / 180, length = r * (inner && i % 2 ? inner : size);
    return `${(length * Math.cos(angle)).toFixed(2)} ${(length * Math.sin(angle)).toFixed(2)}`;
  };
  return `M${Array.from({ length: count }, (_, i) => at(i)).join("L")}z`;
}
// Markers of stacks with privileged information are open.
function drawMark(parent, stack, x, y, r = 4, isOpen = false) {
  const { color, marker } = styleOf(stack);
  return element("path", parent, "", {
    d: outline(marker, r), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, stroke: color, "stroke-width": isOpen ? 1.6 : 0.5, fill: isOpen ? "var(--back)" : color,
  });
}
function drawSample(parent, stack, x, y, isOpen = false) {
  const { color, dash } = styleOf(stack);
  element("line", parent, "", { x1: x - 11, x2: x + 11, y1: y, y2: y, stroke: color, "stroke-width": 1.8, "stroke-dasharray": dash });
  drawMark(parent, stack, x, y, 4, isOpen);
}
// The sample of line and marker that stands beside the name of a stack in tables.
function swatch(parent, stack, isOpen = false) {
  const svg = element("svg", parent, "", { class: "swatch", viewBox: "0 0 26 12", "aria-hidden": "true" });
  drawSample(svg, stack, 13, 6, isOpen);
}
