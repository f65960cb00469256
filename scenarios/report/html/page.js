"use strict";

// A line to copy, with its button.
function command(line, what) {
  const button = make("button", { type: "button", class: "copy", "data-what": what }, "Copy");
  return make("div", { class: "command" }, make("code", {}, line), button);
}

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Where the clipboard is out of reach, what is selected can be copied by hand.
    getSelection().selectAllChildren(code);
    return "selected";
  }
  return "copied";
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (button) {
    const how = await copied(button.parentElement.querySelector("code"));
    document.getElementById("said").textContent = `${button.dataset.what}: ${how}`;
    button.textContent = how === "copied" ? "Copied" : "Selected";
  }
  // Going to a part of the page must not lose the filters, which lie in the address.
  const link = event.target.closest('a[href^="#"]');
  const goal = link && document.getElementById(link.hash.slice(1));
  if (goal) {
    event.preventDefault();
    goal.scrollIntoView();
    goal.focus({ preventScroll: true });
  }
});

for (const button of document.querySelectorAll("button.copy")) button.hidden = false;
// Where a scenario is wider than its place, the step that went wrong is what is seen first.
for (const step of document.querySelectorAll(".timeline thead .first")) {
  const box = step.closest(".scroll");
  if (step.offsetLeft + step.offsetWidth > box.clientWidth) box.scrollLeft = step.offsetLeft + step.offsetWidth - box.clientWidth;
}
const data = JSON.parse(document.getElementById("data").textContent);
if (document.getElementById("grid")) new Points(data.points).start();
if (document.getElementById("crash-grid")) new Crashes(data.crashes).start();
