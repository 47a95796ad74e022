// Sets formulas in type, by KaTeX as it lies beside this file, on pages that have some.
{
  const folder = new URL("katex/", document.currentScript.src);

  const load = (tag, attributes) =>
    new Promise((resolve, reject) => {
      const element = Object.assign(document.createElement(tag), attributes);
      element.onload = resolve;
      element.onerror = reject;
      document.head.append(element);
    });

  const typeset = () => {
    for (const element of document.querySelectorAll(".arithmatex")) {
      const [, opening, formula] = element.textContent.match(/^\s*\\([([])([^]*)\\[)\]]\s*$/);
      katex.render(formula, element, { displayMode: opening === "[", throwOnError: false });
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    if (!document.querySelector(".arithmatex")) return;
    load("link", { rel: "stylesheet", href: new URL("katex.min.css", folder) });
    load("script", { src: new URL("katex.min.js", folder) }).then(typeset);
  });
}
