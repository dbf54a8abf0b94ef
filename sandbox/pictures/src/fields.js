// What a panel says of its fields: units, colours, thresholds, and what differs for some.
import { FieldColorModeId, fieldReducers, getDisplayProcessor, getFieldDisplayName, reduceField } from "@grafana/data";

/** The frames, each field with its configuration and with what writes its values. */
export function configured(frames, panel, theme) {
  const { defaults, overrides } = panel.fieldConfig;
  let seriesIndex = 0;
  return frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => {
      const config = structuredClone({ ...defaults, ...field.config, custom: { ...defaults.custom, ...field.config.custom } });
      for (const { matcher, properties } of overrides) {
        if (applies(matcher, getFieldDisplayName(field, frame, frames))) properties.forEach(({ id, value }) => put(config, id, value));
      }
      if (field.type === "time") delete config.unit;
      config.color ??= { mode: FieldColorModeId.PaletteClassic };
      const made = { ...field, config, state: { seriesIndex: field.type === "number" ? seriesIndex++ : 0 } };
      made.display = getDisplayProcessor({ field: made, theme });
      return made;
    }),
  }));
}

function applies({ id, options }, name) {
  if (id === "byName") return name === options;
  if (id === "byRegexp") return new RegExp(options.replace(/^\/|\/$/g, "")).test(name);
  throw new Error(`a matcher that is not drawn: ${id}`);
}

function put(config, path, value) {
  const parts = path.split(".");
  const last = parts.pop();
  parts.reduce((of, part) => (of[part] ??= {}), config)[last] = value;
}

/** One value of each series, as the panel reduces it. */
export function values(frames, panel) {
  const [calculation] = panel.options.reduceOptions.calcs;
  fieldReducers.get(calculation);
  return frames.flatMap((frame) =>
    frame.fields
      .filter((field) => field.type === "number")
      .map((field) => ({
        field,
        value: { ...field.display(reduceField({ field, reducers: [calculation] })[calculation]), title: getFieldDisplayName(field, frame, frames) },
      })),
  );
}
