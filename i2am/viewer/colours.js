// Colour maps as colours at equal distances, low to high; between them straight lines in sRGB.
const COLOURS = {
  inferno: "0000040b0724210c4a3d096557106e71196e8a226aa32c61bc3754d24644e45a31f1731df98e09fcac11f9cb35f2ea69fcffa4",
  magma: "0000040a08221d114736106b51127c6a1c818326819c2e7fb73779d0416fe75263f56b5cfc8961fea772fec488fde2a3fcfdbf",
  viridis: "440154481f704439833b528b31688e287c8e21918c20a48635b7795ec96290d743c8e020fde725",
  turbo: "30123b3d358b4559cb477bf23e9bfe28bceb19d5cd20eaac46f88479fe59a4fc3cc3f134e1dd37f6c33afea431fb7e21f05b12dd3d08c32503a112017a0403",
  blue: "f6f9fed9e6f8b5cff08bb3e45f94d43b74bf22559f123a7a08234f",
};

const tables = {};

/** 256 colours of a map, three bytes each. */
function table(name) {
  if (tables[name]) return tables[name];
  const stops = COLOURS[name].match(/../g).map((byte) => parseInt(byte, 16));
  const last = stops.length / 3 - 1;
  const colours = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * last;
    const from = Math.min(Math.floor(at), last - 1);
    for (let c = 0; c < 3; c++) {
      const [low, high] = [stops[from * 3 + c], stops[from * 3 + 3 + c]];
      colours[i * 3 + c] = Math.round(low + (high - low) * (at - from));
    }
  }
  return (tables[name] = colours);
}

/** The map as a CSS gradient from left to right. */
function ramp(name) {
  return `linear-gradient(90deg, ${COLOURS[name].match(/.{6}/g).map((colour) => "#" + colour).join(", ")})`;
}
