# frozen_string_literal: true

module TaskerCore
  # A notice of something that has happened. docs/events.md tells which there are, and what their payloads have.
  class Event
    # @return [String] a UUID of version 7
    attr_reader :id
    # @return [String] "step.failed"
    attr_reader :name
    # @return [Time]
    attr_reader :occurred_at
    # @return [String, nil] the UUID that follows the task
    attr_reader :correlation_id
    # @return [Hash{String => Object}]
    attr_reader :payload

    # @param fields [Hash{String => Object}] as they cross the seam
    def initialize(fields)
      @id = fields.fetch("id")
      @name = fields.fetch("name")
      @occurred_at = Time.at(fields.fetch("occurred_at")).utc
      @correlation_id = fields["correlation_id"]
      @payload = fields.fetch("payload")
      freeze
    end

    # @return [Object] a field of the payload
    def [](field) = payload[field.to_s]

    def to_h = { id: id, name: name, occurred_at: occurred_at, correlation_id: correlation_id, payload: payload }
  end
end
