// Asks Prometheus what a panel asks for, and makes of the answers the data frames that Grafana's data source would.
import { FieldType } from "@grafana/data";

/** Which part of time is drawn, and in how many steps. */
export class Range {
  constructor(minutes, now = Date.now() / 1000) {
    // A quarter of a minute from wherever a time is written, so that none is cut off at the edge.
    const end = Math.floor((now - 45) / 60) * 60 + 45;
    this.end = end;
    this.start = end - minutes * 60;
    this.step = Math.max(5, Math.ceil((minutes * 60) / 240));
  }
}

/** A query as Grafana would send it: the variables of the dashboard choose everything. */
export function filledIn(expression, range) {
  const values = {
    $job: ".*",
    $instance: ".*",
    // Four scrapes, of five seconds each.
    $__rate_interval: `${Math.max(20, range.step + 5)}s`,
    $__range: `${range.end - range.start}s`,
  };
  return Object.entries(values).reduce((text, [variable, value]) => text.replaceAll(variable, value), expression);
}

async function ask(prometheus, path, parameters) {
  const answer = await fetch(`${prometheus}/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const { status, data, error } = await answer.json();
  if (status !== "success") throw new Error(`${parameters.query}: ${error}`);
  return data.result;
}

function named(target, labels) {
  if (target.legendFormat) return target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "");
  return "";
}

/** The frames of a target: one a series, or one table. */
export async function frames(prometheus, target, range) {
  const query = filledIn(target.expr, range);
  if (target.range) {
    const series = await ask(prometheus, "query_range", { query, start: range.start, end: range.end, step: range.step });
    return series.map(({ metric, values }) => frame(target, metric, values));
  }
  const vector = await ask(prometheus, "query", { query, time: range.end });
  if (target.format === "table") return [table(target, vector)];
  return vector.map(({ metric, value }) => frame(target, metric, [value]));
}

function frame(target, labels, values) {
  const name = named(target, labels);
  return {
    refId: target.refId,
    name,
    length: values.length,
    fields: [
      { name: "Time", type: FieldType.time, config: {}, values: values.map(([at]) => at * 1000) },
      { name: name || "Value", type: FieldType.number, labels, config: { displayNameFromDS: name }, values: values.map(([, value]) => number(value)) },
    ],
  };
}

function table(target, vector) {
  const labels = [...new Set(vector.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const column = (name) => ({ name, type: FieldType.string, config: {}, values: vector.map(({ metric }) => metric[name] ?? "") });
  return {
    refId: target.refId,
    length: vector.length,
    fields: [
      { name: "Time", type: FieldType.time, config: {}, values: vector.map(({ value }) => value[0] * 1000) },
      ...labels.map(column),
      { name: target.alone ? "Value" : `Value #${target.refId}`, type: FieldType.number, config: {}, values: vector.map(({ value }) => number(value[1])) },
    ],
  };
}

function number(text) {
  return { "+Inf": Infinity, "-Inf": -Infinity }[text] ?? Number(text);
}
