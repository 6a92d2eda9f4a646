// Everything is put on the page.

function start(numbers) {
  const one = oneGene(numbers);
  geneList(numbers, one);
  predictions(numbers, one);
  regulatorSection(numbers);
}

unpack(data.arrays).then(start, () => {
  document
    .querySelector("main")
    .prepend(
      make(
        "p",
        { className: "note" },
        "The numbers of this page could not be unpacked. It needs Chrome or Edge 80, Firefox 113, ",
        "Safari 16.4, or later; with one of these, the file is damaged.",
      ),
    );
});
