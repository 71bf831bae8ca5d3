// What is wrong with a page as it is seen now; the body of a function.
const wrong = [];
const root = document.documentElement;
if (root.scrollWidth > root.clientWidth) wrong.push(`wider than the window: ${root.scrollWidth} of ${root.clientWidth}`);
const parts = (color) => {
  const numbers = color.match(/[\d.]+/g).map(Number);
  return color.startsWith("color(") ? [...numbers.slice(0, 3).map((n) => n * 255), numbers[3] ?? 1] : [...numbers.slice(0, 3), numbers[3] ?? 1];
};
const light = (color) => {
  const [r, g, b] = color.map((n) => n / 255).map((n) => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const background = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const color = parts(getComputedStyle(one).backgroundColor);
    if (color[3] === 1) return color;
    if (color[3] !== 0) throw new Error("half transparent");
  }
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let seen = 0;
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || element.closest("script, .unseen, svg") || !element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const [a, b] = [light(parts(style.color)), light(background(element))].sort((x, y) => y - x);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.67 && style.fontWeight >= 700);
  const contrast = (a + 0.05) / (b + 0.05);
  seen++;
  if (contrast < (large ? 3 : 4.5)) wrong.push(`${contrast.toFixed(2)}: ${style.color} ${element.className} ${texts.currentNode.data.slice(0, 40)}`);
}
for (const svg of document.querySelectorAll(".badge, .blocks a, .counts a")) {
  const style = getComputedStyle(svg);
  const [a, b] = [light(parts(style.color)), light(background(svg))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 3) wrong.push(`symbol: ${svg.className}`);
}
if (!seen) wrong.push("no text is seen");
for (const link of document.querySelectorAll("a")) if (!/^(#|https?:)/.test(link.getAttribute("href"))) wrong.push(link.outerHTML);
for (const one of document.querySelectorAll('a[href^="#"]')) if (!document.getElementById(one.hash.slice(1))) wrong.push(one.outerHTML);
const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
if (new Set(ids).size < ids.length) wrong.push("an id is there twice");
return [...new Set(wrong)].slice(0, 10);
