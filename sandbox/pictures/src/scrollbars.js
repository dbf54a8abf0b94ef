import * as module from "react-custom-scrollbars-2/lib/index.js";

export default module.default?.default ?? module.default;
