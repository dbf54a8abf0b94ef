import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export default {
  build: { outDir: "../../target/pictures/site", emptyOutDir: true, chunkSizeWarningLimit: 20000 },
  // The one module of another kind whose default is asked for where Node would have none.
  resolve: { alias: [{ find: /^react-custom-scrollbars-2$/, replacement: here("src/scrollbars.js") }] },
};
