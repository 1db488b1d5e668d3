# frozen_string_literal: true

module TaskerCore
  class Graph
    # A graph as an SVG picture: from left to right, a box for each step with its name and its state.
    #
    # It is self-contained, and has neither a style sheet nor style attributes, so that a strict content security policy
    # allows it. A page can style it by its classes: `tasker-step`, the state, `tasker-line`.
    #
    # @api private
    class Svg
      FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
      # The largest width of a character, per font size. A wide character (an ideograph) counts twice.
      CHARACTER = 0.62
      NAME = { size: 13, longest: 34 }.freeze
      NOTE = { size: 11, longest: 40 }.freeze
      PADDING = 10
      NARROWEST = 80
      ARROW = 6
      private_constant :FONT, :CHARACTER, :NAME, :NOTE, :PADDING, :NARROWEST, :ARROW

      # @param graph [Graph]
      # @yieldparam node [Node]
      # @yieldreturn [String, nil] the link of the step's box
      def initialize(graph, &link)
        @graph = graph
        @link = link
        @layout = Layout.new(graph) { |node| size(node) }
      end

      def to_s
        width, height = [@layout.width, @layout.height].map(&:ceil)
        extent = %(width="#{width}" height="#{height}" viewBox="0 0 #{width} #{height}")
        <<~SVG
          <svg xmlns="http://www.w3.org/2000/svg" role="#{@link ? 'group' : 'img'}" class="tasker-graph" #{extent}>
          <title>#{escaped(@graph.title)}</title>
          <desc>#{escaped(description)}</desc>
          <g class="tasker-line" fill="none" stroke="#{Palette::LINE}" stroke-width="1.5">
          #{@layout.places.filter_map { |place| lines(place) }.join("\n")}
          </g>
          <g font-family="#{FONT}" fill="#{Palette::INK}">
          #{@layout.boxes.map { |box| linked(box) }.join("\n")}
          </g>
          </svg>
        SVG
      end

      private

      def size(node)
        widths = [[name(node), NAME], [note(node), NOTE]].map { |text, font| columns(text) * font[:size] * CHARACTER }
        [[widths.max, NARROWEST].max + (2 * PADDING), note(node).empty? ? 32.0 : 44.0]
      end

      def columns(text) = text.each_char.sum { |character| wide?(character) ? 2 : 1 }

      def wide?(character) = character.ord > 0x2ff

      def name(node) = fitting("#{"#{MARKS.fetch(node.state, '·')} " if node.state}#{node.name}", NAME)

      def note(node) = fitting([node.state&.tr("_", " "), node.note].compact.join(", "), NOTE)

      # Cuts a text that is too wide; the box's title has all of it.
      def fitting(text, font)
        text = plain(text)
        return text if columns(text) <= font[:longest]

        room = font[:longest] - 2
        "#{text.each_char.take_while { |character| (room -= columns(character)) >= 0 }.join}…"
      end

      def description
        states = @graph.nodes.filter_map(&:state).tally.map { |state, count| "#{count} #{state.tr('_', ' ')}" }
        "#{@graph.nodes.size} #{'step'.pluralize(@graph.nodes.size)}#{": #{states.join(', ')}" if states.any?}"
      end

      def lines(place)
        return if place.after.empty?

        through = "M#{round(place.x)} #{round(place.y)}H#{round(place.right)}" unless place.node
        %(<path d="#{through}#{place.after.map { |target| line(place, target) }.join}"/>)
      end

      def line(from, to)
        tip = to.x - (to.node ? 1 : 0)
        bend = (from.right + tip) / 2
        head = "m-#{ARROW} -#{ARROW - 2}l#{ARROW} #{ARROW - 2}l-#{ARROW} #{ARROW - 2}" if to.node
        "M#{round(from.right)} #{round(from.y)}C#{round(bend)} #{round(from.y)} #{round(bend)} #{round(to.y)} " \
          "#{round(tip)} #{round(to.y)}#{head}"
      end

      # To a screen reader, a picture is one image, and a picture with links is a group.
      def linked(place)
        target = @link&.call(place.node)
        target ? %(<a href="#{target.encode(xml: :text).gsub('"', '&quot;')}">#{box(place)}</a>) : box(place)
      end

      def box(place)
        node = place.node
        colours = Palette::STATES.fetch(node.state)
        paint = %(fill="#{colours.ground}" stroke="#{colours.border}" stroke-width="1.5")
        %(<g class="#{['tasker-step', node.state].compact.join(' ')}"><title>#{escaped(whole(node))}</title>) +
          %(<rect x="#{round(place.x)}" y="#{round(place.y - (place.height / 2))}" width="#{round(place.width)}" ) +
          %(height="#{round(place.height)}" rx="6" #{paint}/>) +
          "#{texts(place)}</g>"
      end

      def texts(place)
        return text(place, 4.5, NAME, name(place.node)) if note(place.node).empty?

        text(place, -3, NAME, name(place.node)) + text(place, 13, NOTE, note(place.node))
      end

      def text(place, down, font, content)
        %(<text x="#{round(place.x + PADDING)}" y="#{round(place.y + down)}" font-size="#{font[:size]}">) +
          "#{escaped(content)}</text>"
      end

      def whole(node) = [node.name, node.state&.tr("_", " "), node.note].compact.join(", ")

      def round(number) = number.round(1).to_s.delete_suffix(".0")

      def escaped(text) = plain(text).encode(xml: :text)

      # XML allows neither control characters nor these two.
      def plain(text) = Support::VisibleText.line(text.scrub.gsub(/[\s\u{fffe}\u{ffff}]+/, " "))
    end
  end
end
