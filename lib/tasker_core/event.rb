# frozen_string_literal: true

module TaskerCore
  # Something that has happened to a task or a step, or in the application. docs/events.md lists the events and their
  # payloads. Frozen.
  class Event
    # @return [String] a UUID of version 7
    attr_reader :id
    # @return [String] "step.failed"
    attr_reader :name
    # @return [Time] in UTC
    attr_reader :occurred_at
    # @return [String, nil] the UUID that follows the task
    attr_reader :correlation_id
    # @return [Hash{String => Object}]
    attr_reader :payload

    # @api private
    # @param fields [Hash{String => Object}] as the extension passes them
    def initialize(fields)
      @id = fields.fetch("id")
      @name = fields.fetch("name")
      @occurred_at = Time.at(fields.fetch("occurred_at")).utc
      @correlation_id = fields["correlation_id"]
      @payload = fields.fetch("payload")
      freeze
    end

    # @param field [String, Symbol]
    # @return [Object, nil] a field of the payload
    def [](field) = payload[field.to_s]

    # @return [Hash{Symbol => Object}]
    def to_h = { id: id, name: name, occurred_at: occurred_at, correlation_id: correlation_id, payload: payload }
  end
end
