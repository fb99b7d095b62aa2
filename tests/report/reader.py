"""An independent reader of a page: its tags, text, attributes and scripts."""

from html import parser as html_parser


class Reader(html_parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.attributes, self.scripts, self.inside = [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        self.attributes += [(tag, *one) for one in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs), []))

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1][1].append(data)
        elif self.inside != "style":
            self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader
