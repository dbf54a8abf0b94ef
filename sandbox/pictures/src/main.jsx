// A dashboard: its JSON, drawn on the answers of a Prometheus. The query of this page's address names both:
// ?dashboard=overview&prometheus=http://…&minutes=6
import "./polyfills.js";
import { createTheme } from "@grafana/data";
import { GlobalStyles, PanelChrome, ThemeContext } from "@grafana/ui";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

import { configured } from "./fields.js";
import { COMPONENTS } from "./panels.jsx";
import { Range, frames } from "./prometheus.js";

const DASHBOARDS = import.meta.glob("../../../dashboards/*.json", { eager: true, import: "default" });

// As Grafana lays its grid out: 24 columns, and rows of 30 pixels with 8 in between.
const [COLUMNS, ROW, GAP] = [24, 30, 8];
const [WIDTH, HEAD] = [1600, 48];

const parameters = new URLSearchParams(location.search);
const prometheus = parameters.get("prometheus");
const range = new Range(Number(parameters.get("minutes") ?? 6));
const dashboard = DASHBOARDS[`../../../dashboards/course-gc-${parameters.get("dashboard")}.json`];
const theme = createTheme({ colors: { mode: "dark" } });
/** What the page has to say to whoever takes the picture; `tops` is where its rows begin. */
const told = (window.told = { drawn: false, empty: [], tops: [] });
addEventListener("error", ({ message }) => (told.error ??= message));
addEventListener("unhandledrejection", ({ reason }) => (told.error ??= String(reason)));

function place({ x, y, w, h }) {
  const unit = (WIDTH - GAP) / COLUMNS;
  return { left: GAP + x * unit, top: HEAD + y * (ROW + GAP), width: w * unit - GAP, height: h * (ROW + GAP) - GAP };
}

function Panel({ panel, data }) {
  const { left, top, width, height } = place(panel.gridPos);
  const style = { position: "absolute", left, top, width, height };
  if (panel.type === "row") {
    return <h2 style={{ ...style, margin: 0, fontSize: 16, fontWeight: 500, lineHeight: `${ROW}px` }}>{panel.title}</h2>;
  }
  const Drawn = COMPONENTS[panel.type];
  if (!Drawn) throw new Error(`${panel.title} is of a type that is not drawn: ${panel.type}`);
  const frames = panel.type === "table" ? data : configured(data, panel, theme);
  return (
    <div style={style}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height} padding={panel.type === "table" ? "none" : "md"}>
        {(width, height) => frames.length && <Drawn frames={frames} panel={panel} width={width} height={height} range={range} />}
      </PanelChrome>
    </div>
  );
}

async function ask(panel) {
  const targets = panel.targets ?? [];
  const all = await Promise.all(targets.map((target) => frames(prometheus, { ...target, alone: targets.length === 1 }, range)));
  for (const [at, answer] of all.entries()) {
    const shows = answer.some(({ fields }) => fields.some(({ type, values }) => type === "number" && values.some((value) => !Number.isNaN(value))));
    if (!shows) told.empty.push(`${panel.title}: ${targets[at].expr}`);
  }
  return all.flat();
}

function Dashboard() {
  const [answers, setAnswers] = useState();
  useEffect(() => {
    Promise.all(dashboard.panels.map(ask)).then(setAnswers, (error) => (told.error = String(error)));
  }, []);
  useEffect(() => {
    if (answers) document.fonts.ready.then(() => setTimeout(() => (told.drawn = true), 500));
  }, [answers]);
  const bottom = HEAD + Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h)) * (ROW + GAP);
  told.tops = dashboard.panels.filter(({ type }) => type === "row").map(({ gridPos }) => place(gridPos).top);
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: "relative", width: WIDTH + GAP, height: bottom }}>
        <h1 style={{ position: "absolute", left: 2 * GAP, top: GAP, margin: 0, fontSize: 20, fontWeight: 500 }}>
          {dashboard.title} <small style={{ color: theme.colors.text.secondary, fontWeight: 400 }}>(a preview)</small>
        </h1>
        {answers && dashboard.panels.map((panel, at) => <Panel key={panel.id} panel={panel} data={answers[at]} />)}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById("root")).render(<Dashboard />);
